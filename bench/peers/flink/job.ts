import type { PeerOptions } from '../peer.ts';

/** What Flink does best with, found by trying: see bench/README.md. */
export function flinkSettings(directory: string, flush: number): Readonly<Record<string, string>> {
  return {
    'parallelism.default': '2',
    'pipeline.object-reuse': 'true',
    'state.backend.type': 'hashmap',
    'execution.checkpointing.interval': '10 s',
    'execution.checkpointing.mode': 'EXACTLY_ONCE',
    'execution.checkpointing.storage': 'filesystem',
    'execution.checkpointing.dir': `file://${directory}/checkpoints`,
    'table.exec.mini-batch.enabled': 'true',
    'table.exec.mini-batch.allow-latency': `${flush} ms`,
    'table.exec.mini-batch.size': flush < 1000 ? '5000' : '50000',
    'table.exec.sink.upsert-materialize': 'NONE',
  };
}

/** Statements with a semicolon and a line break between them; the last is the INSERT. */
export function flinkJob(
  brokers: string,
  databaseUrl: string,
  { topic, workload, flush }: PeerOptions,
): string {
  const source = `WITH (
    'connector' = 'kafka', 'topic' = '${topic}', 'properties.bootstrap.servers' = '${brokers}',
    'properties.group.id' = 'flink-peer', 'scan.startup.mode' = 'earliest-offset', 'format' = 'json',
    'properties.max.poll.records' = '5000', 'properties.max.partition.fetch.bytes' = '4194304',
    'properties.fetch.max.bytes' = '33554432', 'properties.receive.buffer.bytes' = '1048576',
    'properties.check.crcs' = 'false', 'properties.isolation.level' = 'read_committed')`;
  const sink = `WITH (
    'connector' = 'jdbc', 'url' = '${jdbcUrl(databaseUrl)}', 'table-name' = 'bench',
    'sink.buffer-flush.max-rows' = '5000', 'sink.buffer-flush.interval' = '${flush} ms')`;
  const statements =
    workload === 'w1'
      ? [
          `CREATE TABLE orders (order_id BIGINT, customer_id INT, ts BIGINT, price DECIMAL(9, 2), quantity SMALLINT) ${source}`,
          `CREATE TABLE bench (order_id BIGINT, customer_id INT, ts BIGINT, price DECIMAL(9, 2), quantity INT,
            amount DECIMAL(12, 2), PRIMARY KEY (order_id) NOT ENFORCED) ${sink}`,
          `INSERT INTO bench SELECT order_id, customer_id, ts, price, CAST(quantity AS INT), CAST(price * quantity AS DECIMAL(12, 2))
            FROM orders WHERE price IS NOT NULL`,
        ]
      : [
          `CREATE TABLE orders (customer_id INT, ts BIGINT, price DECIMAL(9, 2)) ${source}`,
          `CREATE TABLE bench (window_start BIGINT, customer_id INT, records BIGINT, total DECIMAL(38, 2),
            lowest DECIMAL(9, 2), highest DECIMAL(9, 2), PRIMARY KEY (window_start, customer_id) NOT ENFORCED) ${sink}`,
          // No window function: that would drop the late records that ours count.
          `INSERT INTO bench SELECT ts - MOD(ts, 60000), customer_id, COUNT(*), SUM(price), MIN(price), MAX(price)
            FROM orders WHERE price IS NOT NULL GROUP BY customer_id, ts - MOD(ts, 60000)`,
        ];
  return `${statements.join(';\n')}\n`;
}

/** The user stands in the URL, as the connector takes no user name without a password. */
function jdbcUrl(databaseUrl: string): string {
  const { hostname, port, pathname, username, password } = new URL(databaseUrl);
  const query = new URLSearchParams({
    user: decodeURIComponent(username),
    ...(password !== '' && { password: decodeURIComponent(password) }),
    reWriteBatchedInserts: 'true',
  });
  return `jdbc:postgresql://${hostname}:${port || '5432'}${pathname}?${query.toString()}`;
}
