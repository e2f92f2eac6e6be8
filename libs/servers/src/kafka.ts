import { execFile } from 'node:child_process';
import { randomBytes } from 'node:crypto';
import { existsSync, rmSync, writeFileSync } from 'node:fs';
import path from 'node:path';
import { promisify } from 'node:util';
import { DirectoryLock } from './directory-lock.ts';
import { ServersError } from './errors.ts';
import { freePort, onFreePort } from './free-port.ts';
import { kafkaJars } from './kafka-jars.ts';
import { answersAsKafka } from './kafka-probe.ts';
import { cacheDirectory, findJava } from './local-tools.ts';
import type { ServerOptions } from './server-options.ts';
import { endLeftover, SupervisedServer } from './supervised-server.ts';

const run = promisify(execFile);

export interface KafkaOptions extends ServerOptions {
  /** Of the JVM, in its notation. Default 256m. */
  heap?: string;
}

export type LocalKafka = SupervisedServer & {
  /** `127.0.0.1:port` */
  readonly brokers: string;
};

const stopSignal = 'SIGTERM';

/**
 * In the server's directory, which is where it runs: the paths it gets are relative, as
 * log.dirs is a list with commas, and a properties file is Latin-1, and users' folders are neither.
 */
const propertiesFile = 'server.properties';

/**
 * Starts a Kafka of one node (KRaft: broker and controller in one process) on 127.0.0.1, and waits
 * until it answers. Needs Java 17, and Maven the first time.
 *
 * @throws ServersError
 */
export async function startKafka(options: KafkaOptions): Promise<LocalKafka> {
  const directory = path.resolve(options.directory);
  const { onProgress = () => {}, onEnd = () => {}, heap = '256m' } = options;
  const data = path.join(directory, 'data');
  const lock = new DirectoryLock(directory);
  try {
    const java = await findJava();
    const jars = await kafkaJars(cacheDirectory(), onProgress);
    await endLeftover(directory, stopSignal);
    if (options.fresh) {
      rmSync(data, { recursive: true, force: true });
    }

    const start = async (port: number): Promise<LocalKafka> => {
      writeFileSync(path.join(directory, propertiesFile), serverProperties(port, await freePort()));
      if (!existsSync(path.join(data, 'meta.properties'))) {
        onProgress('Preparing the data directory of Kafka');
        await format(java, jars, directory);
      }
      onProgress('Starting Kafka');
      const server = new SupervisedServer(
        {
          name: 'Kafka',
          directory,
          program: java,
          arguments: [
            `-Xms${heap}`,
            `-Xmx${heap}`,
            '-XX:+UseSerialGC',
            '-XX:+ExitOnOutOfMemoryError',
            ...javaArguments(jars),
            'kafka.Kafka',
            propertiesFile,
          ],
          stopSignal,
          isReady: () => answersAsKafka('127.0.0.1', port),
        },
        onEnd,
        () => lock.release(),
      );
      await server.start();
      onProgress(`Kafka is ready at 127.0.0.1:${port}`);
      return Object.assign(server, { brokers: `127.0.0.1:${port}` });
    };
    return await onFreePort(directory, options.port, start);
  } catch (error) {
    lock.release();
    throw error;
  }
}

function javaArguments(jars: string): string[] {
  return [
    // Else every JVM writes a file of counters below /tmp, and leaves it there when killed.
    '-XX:-UsePerfData',
    '-Dorg.slf4j.simpleLogger.defaultLogLevel=warn',
    '-Dorg.slf4j.simpleLogger.showDateTime=true',
    '-Dorg.slf4j.simpleLogger.dateTimeFormat=yyyy-MM-dd HH:mm:ss.SSS',
    '-cp',
    path.join(jars, '*'),
  ];
}

/** A data directory gets its identity once; without it the broker refuses to start. */
async function format(java: string, jars: string, directory: string): Promise<void> {
  const data = path.join(directory, 'data');
  // Left by a formatting that was interrupted: meta.properties comes last.
  rmSync(data, { recursive: true, force: true });
  const clusterId = randomBytes(16).toString('base64url');
  try {
    await run(
      java,
      [
        // Less compilation for a program that runs a second: 1.0 s instead of 1.5.
        '-XX:TieredStopAtLevel=1',
        '-XX:+UseSerialGC',
        ...javaArguments(jars),
        'kafka.tools.StorageTool',
        'format',
        `--cluster-id=${clusterId}`,
        `--config=${propertiesFile}`,
      ],
      { cwd: directory },
    );
  } catch (cause) {
    throw new ServersError(
      'START_FAILED',
      `Kafka could not prepare its data directory ${data}: ${String(cause)}`,
      { cause },
    );
  }
}

function serverProperties(port: number, controllerPort: number): string {
  const properties = {
    'process.roles': 'broker,controller',
    'node.id': 1,
    listeners: `PLAINTEXT://127.0.0.1:${port},CONTROLLER://127.0.0.1:${controllerPort}`,
    'listener.security.protocol.map': 'PLAINTEXT:PLAINTEXT,CONTROLLER:PLAINTEXT',
    'inter.broker.listener.name': 'PLAINTEXT',
    'controller.listener.names': 'CONTROLLER',
    // The static kind of quorum: the other keeps its addresses with the data, and ours change.
    'controller.quorum.voters': `1@127.0.0.1:${controllerPort}`,
    'log.dirs': 'data',

    // A typo in a topic's name should be an error, not a topic.
    'auto.create.topics.enable': false,
    // Groups start at once instead of waiting 3 s for more members.
    'group.initial.rebalance.delay.ms': 0,

    // After a SIGKILL the broker may not register again before its former session is over: with the
    // default of 9 s a restart takes 12 s.
    'broker.session.timeout.ms': 4000,
    'broker.heartbeat.interval.ms': 1000,

    'offsets.topic.replication.factor': 1,
    'offsets.topic.num.partitions': 4,
    'transaction.state.log.replication.factor': 1,
    'transaction.state.log.min.isr': 1,
    'transaction.state.log.num.partitions': 4,
    'share.coordinator.state.topic.replication.factor': 1,
    'share.coordinator.state.topic.min.isr': 1,
    'share.coordinator.state.topic.num.partitions': 4,

    // Two cores and 256 MB of heap, of which the cleaner alone would take half (128 MB).
    'log.cleaner.dedupe.buffer.size': 8_388_608,
    'num.network.threads': 2,
    'num.io.threads': 4,
    'background.threads': 2,
  };
  return Object.entries(properties)
    .map(([name, value]) => `${name}=${value}\n`)
    .join('');
}
