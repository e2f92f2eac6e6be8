import { randomBytes } from 'node:crypto';
import { mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { internalTopics } from '@anabranch/contract';
import {
  type Codec,
  connect,
  type Kafka,
  type OutgoingMessage,
  type TransactionalProducer,
} from '@anabranch/kafka';
import {
  createDatabase,
  dropDatabase,
  type LogLine,
  type ServiceName,
  serviceNames,
  ServiceProcess,
} from '@anabranch/servers';
import type {} from '@anabranch/servers/vitest';
import pg from 'pg';
import { inject, onTestFinished } from 'vitest';
import { eventually } from './eventually.ts';
import { endsOf } from './partition-ends.ts';
import type { SourceRecord } from './records.ts';

/** Contents by name; `anabranch.yaml` is the definition. */
export type DefinitionFiles = Readonly<Record<'anabranch.yaml', string>> &
  Readonly<Record<string, string>>;

export interface ChainOptions {
  readonly define: (source: string, topic: string) => DefinitionFiles;
  readonly partitions: number;
  /** Default true. */
  readonly createTopic?: boolean;
  /** Further settings of all services. */
  readonly env?: Readonly<Record<string, string>>;
}

/** A record and where it stands in the source. */
export interface ProducedRecord extends SourceRecord {
  readonly offset: bigint;
}

export interface Frontier {
  readonly partition: number;
  readonly branch: 'stream' | 'batch';
  readonly next: bigint;
}

const quiet = { debug() {}, info() {}, warn() {}, error() {} };
const codecs = ['none', 'gzip', 'snappy', 'lz4', 'zstd'] as const;

/**
 * Opens a chain for the test that runs: it ends with the test, and shows the end of its logs when
 * the test fails.
 */
export async function openChain(options: ChainOptions): Promise<Chain> {
  const chain = await Chain.open(options);
  onTestFinished(async ({ task }) => {
    if (task.result?.state === 'fail') {
      console.error(chain.logTails());
    }
    await chain.close();
  }, 60_000);
  return chain;
}

/**
 * The whole system for one test: a source topic and a database of its own, the services as processes
 * from their bundles, and a memory of every record that was produced.
 */
export class Chain {
  readonly source: string;
  readonly topic: string;
  readonly databaseUrl: string;
  readonly kafka: Kafka;
  readonly pool: pg.Pool;
  readonly definition: string;
  /** All that a read_committed reader may see, in the order of each partition. */
  readonly produced: ProducedRecord[] = [];
  readonly #brokers: string;
  readonly #directory: string;
  readonly #env: Readonly<Record<string, string>>;
  readonly #running = new Set<ServiceProcess>();
  readonly #logs = new Set<string>();
  /** Next offset of each partition of the source, counted here and not asked of any client. */
  #next: bigint[];
  #sends = 0;

  static async open(options: ChainOptions): Promise<Chain> {
    const brokers = inject('kafkaBrokers');
    const kafka = await connect({ brokers: brokers.split(','), clientId: 'test', logger: quiet });
    const chain = new Chain(
      options,
      brokers,
      kafka,
      await createDatabase(inject('databaseUrl'), 'e2e'),
    );
    if (options.createTopic !== false) {
      await chain.createTopic();
    }
    return chain;
  }

  private constructor(
    { define, partitions, env = {} }: ChainOptions,
    brokers: string,
    kafka: Kafka,
    databaseUrl: string,
  ) {
    const unique = randomBytes(4).toString('hex');
    this.source = `orders_${unique}`;
    this.topic = `e2e-orders-${unique}`;
    this.kafka = kafka;
    this.databaseUrl = databaseUrl;
    this.pool = new pg.Pool({
      connectionString: databaseUrl,
      max: 4,
      application_name: 'test',
      // The oracle's queries sort and group everything at once.
      options: '-c TimeZone=UTC -c work_mem=256MB -c jit=off',
    });
    this.pool.on('error', () => undefined);
    this.#brokers = brokers;
    this.#env = env;
    this.#next = Array<bigint>(partitions).fill(0n);
    this.#directory = mkdtempSync(path.join(tmpdir(), 'anabranch-e2e-'));
    const files = path.join(this.#directory, 'definition');
    mkdirSync(files);
    for (const [name, content] of Object.entries(define(this.source, this.topic))) {
      writeFileSync(path.join(files, name), content);
    }
    this.definition = path.join(files, 'anabranch.yaml');
  }

  get partitions(): number {
    return this.#next.length;
  }

  async createTopic(): Promise<void> {
    // The records' timestamps are of 2025: retention would take them away.
    const configs = { 'retention.ms': '-1' };
    await this.kafka.admin.ensureTopics([
      { name: this.topic, partitions: this.#next.length, configs },
    ]);
  }

  async addPartitions(count: number): Promise<void> {
    this.#next = [...this.#next, ...Array<bigint>(count - this.#next.length).fill(0n)];
    await this.kafka.admin.createPartitions(this.topic, count);
    // kafkajs leaves out, without a word, what is for a partition that it hasn't heard of yet.
    await this.#producer?.close();
    this.#producer = undefined;
  }

  start(
    service: ServiceName,
    instance = 'a',
    options: {
      readonly env?: Readonly<Record<string, string>>;
      readonly onLog?: (line: LogLine) => void;
    } = {},
  ): ServiceProcess {
    const started = new ServiceProcess({
      service,
      instance,
      directory: path.join(this.#directory, 'services'),
      brokers: this.#brokers,
      databaseUrl: this.databaseUrl,
      definition: this.definition,
      ...(options.onLog && { onLog: options.onLog }),
      env: { ...this.#env, ...options.env },
    });
    this.#running.add(started);
    this.#logs.add(started.logFile);
    return started;
  }

  startAll(instance = 'a'): Record<ServiceName, ServiceProcess> {
    const started = serviceNames.map((service) => [service, this.start(service, instance)]);
    return Object.fromEntries(started) as Record<ServiceName, ServiceProcess>;
  }

  /** SIGTERM. @returns the exit code */
  stop(service: ServiceProcess): Promise<number | null> {
    this.#running.delete(service);
    return service.stop();
  }

  /** SIGKILL. */
  async kill(service: ServiceProcess): Promise<void> {
    this.#running.delete(service);
    await service.kill();
  }

  /** Waits until each of them is a member of its group and has partitions. */
  async ready(services: readonly ServiceProcess[]): Promise<void> {
    for (const service of services) {
      let last: unknown;
      await this.eventually(
        `${service.service} ${service.instance} to be ready`,
        async () => {
          const { ok, details } = await service.readiness();
          last = details;
          return ok && partitionsIn(details, this.source) > 0 ? true : undefined;
        },
        () => JSON.stringify(last),
      );
    }
  }

  /** `eventually`, but for the end of a service that should be running it doesn't wait. */
  eventually<T>(
    what: string,
    look: () => Promise<T | undefined> | T | undefined,
    known?: () => Promise<string> | string,
  ): Promise<T> {
    return eventually(
      what,
      async () => {
        for (const { service, instance, isRunning, exited } of this.#running) {
          if (!isRunning) {
            throw new Error(
              `Waiting for ${what}, but ${service} ${instance} has ended with exit code ${await exited}.`,
            );
          }
        }
        return look();
      },
      known,
    );
  }

  /** Sends records with one of the codecs, each in turn. */
  async produce(records: readonly SourceRecord[]): Promise<void> {
    const compression = codecs[this.#sends++ % codecs.length] as Codec;
    const producer = (this.#producer ??= this.kafka.producer());
    await producer.send(
      this.topic,
      records.map(({ partition, key, value, headers, timestamp }) => ({
        partition,
        key,
        value,
        headers,
        timestamp,
      })),
      { compression },
    );
    this.#remember(records);
  }

  /** Sends records in a transaction of their own. */
  async produceInTransaction(records: readonly SourceRecord[]): Promise<void> {
    const producer = await this.kafka.transactionalProducer({ transactionalId: `${this.topic}.c` });
    try {
      await producer.commit(records.map(this.#outgoing), [], null);
      this.#remember(records);
      this.#skipMarkers(records);
      await this.#markersWritten();
    } finally {
      await producer.close();
    }
  }

  /**
   * Sends records that nobody may ever see: two transactions over the same partitions, interleaved,
   * and both aborted, the later one first.
   */
  async produceAborted(
    first: readonly SourceRecord[],
    second: readonly SourceRecord[],
  ): Promise<void> {
    const open = (name: string): Promise<TransactionalProducer> =>
      this.kafka.transactionalProducer({ transactionalId: `${this.topic}.${name}` });
    const [a, b] = await Promise.all([open('a'), open('b')]);
    try {
      const [outer, inner] = await Promise.all([a.begin(), b.begin()]);
      const half = Math.ceil(first.length / 2);
      await outer.send(first.slice(0, half).map(this.#outgoing));
      await inner.send(second.map(this.#outgoing));
      await outer.send(first.slice(half).map(this.#outgoing));
      for (const { partition } of [...first, ...second]) {
        this.#take(partition);
      }
      await inner.abort();
      this.#skipMarkers(second);
      await this.#markersWritten();
      await outer.abort();
      this.#skipMarkers(first);
      await this.#markersWritten();
    } finally {
      await Promise.all([a.close(), b.close()]);
    }
  }

  /** Applied up to; empty while there is no table or no row yet. */
  async frontiers(): Promise<Frontier[]> {
    const rows = await this.query<{ partition: number; branch: 'stream' | 'batch'; next: string }>(
      `SELECT partition, branch, next_offset AS next FROM anabranch.frontier
       WHERE source = $1 AND next_offset IS NOT NULL ORDER BY 1, 2`,
      [this.source],
    ).catch((error: unknown) => {
      if (['42P01', '3F000'].includes((error as { code?: string }).code ?? '')) {
        return [];
      }
      throw error;
    });
    return rows.map(({ next, ...row }) => ({ ...row, next: BigInt(next) }));
  }

  /** Sum of the frontiers of one branch: what rises while that branch makes progress. */
  async progress(branch: 'stream' | 'batch'): Promise<bigint> {
    const frontiers = await this.frontiers();
    return frontiers
      .filter((frontier) => frontier.branch === branch)
      .reduce((sum, { next }) => sum + next, 0n);
  }

  /**
   * Waits until every record is applied on both branches, and every dead letter is stored.
   * @throws at once when a partition was halted
   */
  async settled(): Promise<void> {
    await this.#checkEnds();
    const ends = new Map<number, bigint>();
    for (const { partition, offset } of this.produced) {
      ends.set(partition, offset + 1n);
    }
    await this.eventually(
      'all records to be applied',
      async () => {
        const frontiers = await this.frontiers();
        const isThrough = [...ends].every(([partition, end]) =>
          ['stream', 'batch'].every((branch) =>
            frontiers.some(
              (frontier) =>
                frontier.partition === partition &&
                frontier.branch === branch &&
                frontier.next >= end,
            ),
          ),
        );
        if (frontiers.length > 0) {
          const conflicts = await this.query(
            'SELECT partition, branch, verdict, next_offset, from_offset, to_offset FROM anabranch.conflicts',
          );
          if (conflicts.length > 0) {
            throw new Error(`A partition is halted: ${JSON.stringify(conflicts)}`);
          }
        }
        return isThrough ? true : undefined;
      },
      async () =>
        `Ends: ${show([...ends].map(([partition, end]) => ({ partition, end })))}; frontiers: ${show(await this.frontiers())}`,
    );
    let counts: unknown;
    await this.eventually(
      'all dead letters to be stored',
      async () => {
        const [row] = await this.query<{ stored: string; counted: string }>(`
          SELECT (SELECT count(*) FROM anabranch.dead_letters) AS stored,
            (SELECT coalesce(sum(dead_records), 0) FROM anabranch.ledger WHERE branch = 'stream')
            + (SELECT coalesce(sum(dead_records), 0) FROM anabranch.table_counts) AS counted`);
        counts = row;
        return row?.stored === row?.counted ? true : undefined;
      },
      () => JSON.stringify(counts),
    );
  }

  async query<T extends object>(text: string, values: unknown[] = []): Promise<T[]> {
    const { rows } = await this.pool.query<T>(text, values);
    return rows;
  }

  /** What the services said last. */
  logTails(): string {
    return [...this.#logs]
      .map((file) => {
        const lines = readFileSync(file, 'utf8').trimEnd().split('\n');
        const last = lines.slice(-12).map((line) => line.slice(0, 600));
        return `── ${path.basename(file)}\n${last.join('\n')}`;
      })
      .join('\n');
  }

  async close(): Promise<void> {
    for (const service of this.#running) {
      // One that is paused would never get to see a SIGTERM.
      service.resume();
    }
    await Promise.all([...this.#running].map((service) => service.kill()));
    await this.#producer?.close();
    await this.pool.end();
    const internal = Object.values(internalTopics(this.topic)) as string[];
    for (const topic of [this.topic, ...internal]) {
      await this.kafka.admin.deleteTopics([topic]).catch(() => undefined);
    }
    await this.kafka.close();
    await dropDatabase(this.databaseUrl);
    rmSync(this.#directory, { recursive: true, force: true });
  }

  #producer: ReturnType<Kafka['producer']> | undefined;

  readonly #outgoing = ({
    partition,
    key,
    value,
    headers,
    timestamp,
  }: SourceRecord): OutgoingMessage => ({
    topic: this.topic,
    partition,
    key,
    value,
    headers,
    timestamp,
  });

  #remember(records: readonly SourceRecord[]): void {
    for (const record of records) {
      this.produced.push({ ...record, offset: this.#take(record.partition) });
    }
  }

  /** A transaction's end takes an offset of each partition that it wrote to. */
  #skipMarkers(records: readonly SourceRecord[]): void {
    for (const partition of new Set(records.map((record) => record.partition))) {
      this.#take(partition);
    }
  }

  #take(partition: number): bigint {
    const offset = this.#next[partition];
    if (offset === undefined) {
      throw new RangeError(`The source has no partition ${partition}.`);
    }
    this.#next[partition] = offset + 1n;
    return offset;
  }

  /** A broker ends a transaction first and writes its markers then: what is sent next may overtake them. */
  async #markersWritten(): Promise<void> {
    await this.eventually('the transactions to be marked as ended', async () =>
      String(await this.#ends()) === String(this.#next) ? true : undefined,
    );
  }

  /** What is compared later rests on the offsets counted here: a repeated send would shift them. */
  async #checkEnds(): Promise<void> {
    const ends = await this.#ends();
    if (String(ends) !== String(this.#next)) {
      throw new Error(
        `The source ends at ${String(ends)}, though what was produced makes ${String(this.#next)}.`,
      );
    }
  }

  async #ends(): Promise<bigint[]> {
    const ends = await endsOf(this.topic, this.#next.length);
    return ends.map(({ all }) => all);
  }
}

/** How many partitions of a source a service says that it has. */
export function partitionsIn(readiness: unknown, source: string): number {
  const { details } = readiness as { details?: Record<string, { partitions?: number }> };
  return details?.[source]?.partitions ?? 0;
}

const show = (value: unknown): string =>
  JSON.stringify(value, (_, item: unknown) => (typeof item === 'bigint' ? String(item) : item));
