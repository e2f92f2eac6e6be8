import { mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { connect, type Kafka } from '@anabranch/kafka';
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
import type { SourceRecord } from './records.ts';
import { type ProducedRecord, SourceTopic } from './source-topic.ts';

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

export interface SystemOptions {
  readonly servers: Addresses;
  /** Where the services find the servers, when that isn't where this process does. */
  readonly seenByServices?: (databaseUrl: string) => Addresses;
  /** Names and partitions. */
  readonly sources: readonly { readonly name: string; readonly partitions: number }[];
  readonly define: (sources: readonly SourceTopic[]) => DefinitionFiles;
  readonly env?: Readonly<Record<string, string>>;
}

export interface Addresses {
  readonly brokers: string;
  readonly databaseUrl: string;
}

export interface Frontier {
  readonly partition: number;
  readonly branch: 'stream' | 'batch';
  readonly next: bigint;
}

const quiet = { debug() {}, info() {}, warn() {}, error() {} };

/**
 * Opens a chain for the test that runs: it ends with the test, and shows the end of its logs when
 * the test fails.
 */
export async function openChain(options: ChainOptions): Promise<Chain> {
  const { define, partitions, createTopic = true, env = {} } = options;
  const chain = await Chain.open({
    servers: { brokers: inject('kafkaBrokers'), databaseUrl: inject('databaseUrl') },
    sources: [{ name: 'orders', partitions }],
    define: ([orders]) => define(orders?.source ?? '', orders?.topic ?? ''),
    env,
  });
  if (createTopic) {
    await chain.createTopic();
  }
  onTestFinished(async ({ task }) => {
    if (task.result?.state === 'fail') {
      console.error(chain.logTails());
    }
    await chain.close();
  }, 60_000);
  return chain;
}

/**
 * The whole system for one test: source topics and a database of its own, the services as processes
 * from their bundles, and a memory of every record that was produced. What is said of a source
 * without naming one is of the first.
 */
export class Chain {
  readonly sources: readonly SourceTopic[];
  readonly databaseUrl: string;
  readonly kafka: Kafka;
  readonly pool: pg.Pool;
  readonly definition: string;
  /** Where the services have their logs and spools. */
  readonly directory: string;
  readonly #first: SourceTopic;
  readonly #seenByServices: Addresses;
  readonly #env: Readonly<Record<string, string>>;
  readonly #running = new Set<ServiceProcess>();
  readonly #logs = new Set<string>();

  /** The topics aren't made yet. */
  static async open(options: SystemOptions): Promise<Chain> {
    const { brokers, databaseUrl } = options.servers;
    const kafka = await connect({ brokers: brokers.split(','), clientId: 'test', logger: quiet });
    return new Chain(options, kafka, await createDatabase(databaseUrl, 'e2e'));
  }

  private constructor(options: SystemOptions, kafka: Kafka, databaseUrl: string) {
    const { brokers } = options.servers;
    this.sources = options.sources.map((source) => new SourceTopic({ ...source, kafka, brokers }));
    const [first] = this.sources;
    if (first === undefined) {
      throw new RangeError('A chain has a source.');
    }
    this.#first = first;
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
    this.#seenByServices = options.seenByServices?.(databaseUrl) ?? { brokers, databaseUrl };
    this.#env = options.env ?? {};
    const folder = mkdtempSync(path.join(tmpdir(), 'anabranch-e2e-'));
    this.directory = path.join(folder, 'services');
    const files = path.join(folder, 'definition');
    mkdirSync(files);
    for (const [name, content] of Object.entries(options.define(this.sources))) {
      writeFileSync(path.join(files, name), content);
    }
    this.definition = path.join(files, 'anabranch.yaml');
  }

  get source(): string {
    return this.#first.source;
  }

  get topic(): string {
    return this.#first.topic;
  }

  get partitions(): number {
    return this.#first.partitions;
  }

  get produced(): readonly ProducedRecord[] {
    return this.#first.produced;
  }

  createTopic(): Promise<void> {
    return this.#first.create();
  }

  addPartitions(count: number): Promise<void> {
    return this.#first.addPartitions(count);
  }

  produce(records: readonly SourceRecord[]): Promise<void> {
    return this.#first.produce(records);
  }

  produceInTransaction(records: readonly SourceRecord[]): Promise<void> {
    return this.#first.produceInTransaction(records);
  }

  produceAborted(first: readonly SourceRecord[], second: readonly SourceRecord[]): Promise<void> {
    return this.#first.produceAborted(first, second);
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
      directory: this.directory,
      ...this.#seenByServices,
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

  /** Applied up to; empty while there is no table or no row yet. */
  async frontiers({ source } = this.#first): Promise<Frontier[]> {
    const rows = await this.query<{ partition: number; branch: 'stream' | 'batch'; next: string }>(
      `SELECT partition, branch, next_offset AS next FROM anabranch.frontier
       WHERE source = $1 AND next_offset IS NOT NULL ORDER BY 1, 2`,
      [source],
    ).catch((error: unknown) => {
      if (['42P01', '3F000'].includes((error as { code?: string }).code ?? '')) {
        return [];
      }
      throw error;
    });
    return rows.map(({ next, ...row }) => ({ ...row, next: BigInt(next) }));
  }

  /** Sum of the frontiers of one branch: what rises while that branch makes progress. */
  async progress(branch: 'stream' | 'batch', source = this.#first): Promise<bigint> {
    const frontiers = await this.frontiers(source);
    return frontiers
      .filter((frontier) => frontier.branch === branch)
      .reduce((sum, { next }) => sum + next, 0n);
  }

  /**
   * Waits until every record is applied on both branches, and every dead letter is stored.
   * @throws at once when a partition was halted
   */
  async settled(): Promise<void> {
    for (const source of this.sources) {
      await this.#applied(source);
    }
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

  async #applied(source: SourceTopic): Promise<void> {
    await source.checkEnds();
    const ends = source.lastOffsets();
    await this.eventually(
      'all records to be applied',
      async () => {
        const frontiers = await this.frontiers(source);
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
        `Ends: ${show([...ends].map(([partition, end]) => ({ partition, end })))}; frontiers: ${show(await this.frontiers(source))}`,
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
    await this.pool.end();
    await Promise.all(this.sources.map((source) => source.delete()));
    await this.kafka.close();
    await dropDatabase(this.databaseUrl);
    rmSync(path.dirname(this.directory), { recursive: true, force: true });
  }
}

/** How many partitions of a source a service says that it has. */
export function partitionsIn(readiness: unknown, source: string): number {
  const { details } = readiness as { details?: Record<string, { partitions?: number }> };
  return details?.[source]?.partitions ?? 0;
}

const show = (value: unknown): string =>
  JSON.stringify(value, (_, item: unknown) => (typeof item === 'bigint' ? String(item) : item));
