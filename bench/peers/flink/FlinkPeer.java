import java.io.Reader;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.Properties;
import org.apache.flink.configuration.Configuration;
import org.apache.flink.streaming.api.environment.StreamExecutionEnvironment;
import org.apache.flink.table.api.bridge.java.StreamTableEnvironment;

/**
 * Runs statements of Flink SQL on a cluster in this process: FlinkPeer SETTINGS.properties JOB.sql. The
 * last statement is the INSERT. Ends with its standard input.
 */
public final class FlinkPeer {
  public static void main(String[] arguments) throws Exception {
    Thread parent =
        new Thread(
            () -> {
              try {
                while (System.in.read() >= 0) {}
              } catch (java.io.IOException gone) {
                // The parent is, too.
              }
              Runtime.getRuntime().halt(0);
            });
    parent.setDaemon(true);
    parent.start();

    Properties settings = new Properties();
    try (Reader reader = Files.newBufferedReader(Path.of(arguments[0]))) {
      settings.load(reader);
    }
    Configuration configuration = new Configuration();
    settings.forEach((name, value) -> configuration.setString((String) name, (String) value));

    StreamTableEnvironment tables =
        StreamTableEnvironment.create(
            StreamExecutionEnvironment.getExecutionEnvironment(configuration));
    String[] statements = Files.readString(Path.of(arguments[1])).split(";\\s*\n");
    for (int i = 0; i < statements.length - 1; i++) {
      tables.executeSql(statements[i]);
    }
    tables.executeSql(statements[statements.length - 1]).await();
  }
}
