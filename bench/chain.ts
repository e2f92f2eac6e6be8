import { randomBytes } from 'node:crypto';
import { mkdirSync, writeFileSync } from 'node:fs';
import path from 'node:path';
import { setTimeout as pause } from 'node:timers/promises';
import { internalTopics } from '@anabranch/contract';
import { connect, type Kafka } from '@anabranch/kafka';
import {
  createDatabase,
  dropDatabase,
  type LocalKafka,
  type LocalPostgres,
  type ServiceName,
  serviceNames,
  ServiceProcess,
  startKafka,
  startPostgres,
} from '@anabranch/servers';
import pg from 'pg';
import {
  costOf,
  costOfFamily,
  peakMemoryOf,
  peakMemoryOfFamily,
  type ProcessCost,
} from './process-cost.ts';
import { source } from './workloads.ts';

export const components = [...serviceNames, 'broker', 'postgres'] as const;
export type Component = (typeof components)[number];
export type PerComponent<T> = Readonly<Record<Component, T>>;

export interface ChainOptions {
  /** For data, logs and definition; made if needed. */
  readonly directory: string;
  readonly partitions: number;
  readonly brokers: string | undefined;
  readonly databaseUrl: string | undefined;
  readonly definitionOf: (topic: string) => Readonly<Record<string, string>>;
  /** Further settings of each service. */
  readonly settings: Readonly<Partial<Record<ServiceName, Readonly<Record<string, string>>>>>;
  readonly onProgress: (message: string) => void;
  readonly signal: AbortSignal;
}

export interface StageCost {
  readonly service: string;
  readonly branch: string;
  readonly steps: number;
  readonly records: number;
  readonly rows: number;
  /** Of the clock, over all steps. */
  readonly load: number;
  readonly preprocess: number;
  readonly process: number;
  readonly store: number;
}

const quiet = { debug() {}, info() {}, warn() {}, error() {} };
const connectMilliseconds = 15_000;
const pollMilliseconds = 25;
const patienceMilliseconds = 120_000;

/** Servers, a source topic, a database, and the four services as processes: for one workload. */
export class Chain {
  readonly topic: string;
  readonly kafka: Kafka;
  readonly pool: pg.Pool;
  readonly #options: ChainOptions;
  readonly #servers: Servers;
  #services: ServiceProcess[] = [];

  static async open(options: ChainOptions): Promise<Chain> {
    mkdirSync(options.directory, { recursive: true });
    const servers = await openServers(options);
    try {
      const timeout = AbortSignal.any([options.signal, AbortSignal.timeout(connectMilliseconds)]);
      const kafka = await connect(
        { brokers: servers.brokers.split(','), clientId: 'bench', logger: quiet },
        timeout,
      ).catch((cause: unknown) => {
        throw new Error(`No Kafka answers at ${servers.brokers}`, { cause });
      });
      return new Chain(options, servers, kafka);
    } catch (error) {
      await closeServers(servers);
      throw error;
    }
  }

  private constructor(options: ChainOptions, servers: Servers, kafka: Kafka) {
    this.#options = options;
    this.#servers = servers;
    this.kafka = kafka;
    this.topic = `bench-orders-${randomBytes(4).toString('hex')}`;
    this.pool = new pg.Pool({
      connectionString: servers.databaseUrl,
      max: 2,
      application_name: 'bench',
      options: '-c TimeZone=UTC',
    });
    this.pool.on('error', () => undefined);
  }

  async createTopic(): Promise<void> {
    const { partitions } = this.#options;
    await this.kafka.admin.ensureTopics([
      { name: this.topic, partitions, configs: { 'retention.ms': '-1' } },
    ]);
  }

  startServices(): void {
    const { directory, definitionOf, settings } = this.#options;
    const { brokers, databaseUrl } = this.#servers;
    for (const [name, content] of Object.entries(definitionOf(this.topic))) {
      writeFileSync(path.join(directory, name), content);
    }
    this.#services = serviceNames.map(
      (service) =>
        new ServiceProcess({
          service,
          instance: 'bench',
          directory: path.join(directory, 'services'),
          brokers,
          databaseUrl,
          definition: path.join(directory, 'anabranch.yaml'),
          env: settings[service] ?? {},
        }),
    );
  }

  /** How many records each branch has accounted for in Postgres; 0 while there is no table yet. */
  async applied(): Promise<{ stream: number; batch: number }> {
    const none = { stream: 0, batch: 0 };
    try {
      const { rows } = await this.pool.query<{ stream: string; batch: string }>({
        name: 'applied',
        text: `SELECT coalesce(sum(next_offset - origin) FILTER (WHERE branch = 'stream'), 0) AS stream,
            coalesce(sum(next_offset - origin) FILTER (WHERE branch = 'batch'), 0) AS batch
          FROM anabranch.frontier WHERE source = $1`,
        values: [source],
      });
      const row = rows[0];
      return row === undefined ? none : { stream: Number(row.stream), batch: Number(row.batch) };
    } catch (error) {
      if (['42P01', '3F000'].includes((error as { code?: string }).code ?? '')) {
        return none;
      }
      throw error;
    }
  }

  /**
   * Waits until both branches have accounted for so many records.
   * @param onLook is told each time how far they are
   * @throws when a service has ended, or nothing has moved for two minutes
   */
  async settled(
    records: number,
    onLook: (applied: { stream: number; batch: number }) => void = () => {},
  ): Promise<void> {
    let last = -1;
    let movedAt = performance.now();
    for (;;) {
      const applied = await this.applied();
      onLook(applied);
      if (applied.stream >= records && applied.batch >= records) {
        return;
      }
      const sum = applied.stream + applied.batch;
      if (sum !== last) {
        last = sum;
        movedAt = performance.now();
      } else if (performance.now() - movedAt > patienceMilliseconds) {
        throw new Error(
          `Nothing has moved for two minutes: of ${records} records ${applied.stream} are applied by the stream branch, ${applied.batch} by the batch branch. The logs are in ${this.#options.directory}/services`,
        );
      }
      await this.checkServices();
      await pause(pollMilliseconds, undefined, { signal: this.#options.signal });
    }
  }

  /** @throws when a service has ended */
  async checkServices(): Promise<void> {
    const ended = this.#services.find(({ isRunning }) => !isRunning);
    if (ended !== undefined) {
      // Its error has the end of its log.
      await ended.readiness();
    }
  }

  /** CPU that each has used since it began; null where that isn't known. */
  costs(): PerComponent<ProcessCost | null> {
    const { kafka, postgres } = this.#servers;
    return {
      ...this.#ofServices(costOf),
      broker: kafka?.pid === undefined ? null : costOf(kafka.pid),
      postgres: postgres?.pid === undefined ? null : costOfFamily(postgres.pid),
    };
  }

  /** Bytes. */
  peakMemory(): PerComponent<number | null> {
    const { kafka, postgres } = this.#servers;
    return {
      ...this.#ofServices(peakMemoryOf),
      broker: kafka?.pid === undefined ? null : peakMemoryOf(kafka.pid),
      postgres: postgres?.pid === undefined ? null : peakMemoryOfFamily(postgres.pid),
    };
  }

  /** Where the services' steps have spent their time so far. */
  async stageCosts(): Promise<StageCost[]> {
    const { rows } = await this.pool.query<Record<keyof StageCost, string>>(`
      SELECT service, branch, sum(steps) AS steps, sum(records) AS records, sum(rows_written) AS rows,
        sum(load_seconds) AS load, sum(preprocess_seconds) AS preprocess, sum(process_seconds) AS process,
        sum(store_seconds) AS store
      FROM anabranch.stage_costs GROUP BY 1, 2 ORDER BY 1, 2`);
    const stored = rows.map(({ service, branch, ...numbers }) => ({
      service,
      branch,
      steps: Number(numbers.steps),
      records: Number(numbers.records),
      rows: Number(numbers.rows),
      load: Number(numbers.load),
      preprocess: Number(numbers.preprocess),
      process: Number(numbers.process),
      store: Number(numbers.store),
    }));
    return [await this.#ingestCosts(), ...stored];
  }

  /** Bytes of write-ahead log so far. */
  async walBytes(): Promise<number> {
    const { rows } = await this.pool.query<{ bytes: string }>(
      `SELECT pg_current_wal_lsn() - '0/0'::pg_lsn AS bytes`,
    );
    return Number(rows[0]?.bytes);
  }

  async close(): Promise<void> {
    await Promise.all(this.#services.map((service) => service.stop()));
    await this.pool.end();
    const { kafka, databaseUrl } = this.#servers;
    if (kafka === undefined) {
      const internal = Object.values(internalTopics(this.topic)) as string[];
      for (const topic of [this.topic, ...internal]) {
        await this.kafka.admin.deleteTopics([topic]).catch(() => undefined);
      }
    }
    await this.kafka.close();
    await dropDatabase(databaseUrl);
    await closeServers(this.#servers);
  }

  #ofServices<T>(measure: (pid: number) => T | null): Record<ServiceName, T | null> {
    return Object.fromEntries(
      serviceNames.map((name) => {
        const service = this.#services.find((candidate) => candidate.service === name);
        return [name, service === undefined ? null : measure(service.pid)];
      }),
    ) as Record<ServiceName, T | null>;
  }

  /** Ingest has no partial to send its costs with: they are in its metrics. */
  async #ingestCosts(): Promise<StageCost> {
    const text =
      (await this.#services.find(({ service }) => service === 'ingest')?.metrics()) ?? '';
    const sumOf = (pattern: string): number =>
      [...text.matchAll(new RegExp(`^${pattern} (\\S+)$`, 'gm'))].reduce(
        (sum, [, value]) => sum + Number(value),
        0,
      );
    const stage = (name: string): number =>
      sumOf(`anabranch_step_seconds_sum\\{[^}]*stage="${name}"[^}]*\\}`);
    return {
      service: 'ingest',
      branch: 'both',
      steps: sumOf(`anabranch_step_seconds_count\\{[^}]*stage="load"[^}]*\\}`),
      records: sumOf('anabranch_records_total\\{[^}]*\\}'),
      rows: 0,
      load: stage('load'),
      preprocess: stage('preprocess'),
      process: stage('process'),
      store: stage('store'),
    };
  }
}

interface Servers {
  readonly brokers: string;
  /** Of a database of the bench's own. */
  readonly databaseUrl: string;
  /** Undefined: the user's. */
  readonly kafka: LocalKafka | undefined;
  readonly postgres: LocalPostgres | undefined;
}

async function openServers(options: ChainOptions): Promise<Servers> {
  const { directory, brokers, databaseUrl, onProgress } = options;
  const [kafka, postgres] = await Promise.allSettled([
    brokers ? undefined : startKafka({ directory: path.join(directory, 'kafka'), onProgress }),
    databaseUrl
      ? undefined
      : startPostgres({ directory: path.join(directory, 'postgres'), onProgress }),
  ]);
  const stop = async (): Promise<void> => {
    for (const server of [kafka, postgres]) {
      if (server.status === 'fulfilled') {
        await server.value?.stop();
      }
    }
  };
  try {
    if (kafka.status === 'rejected' || postgres.status === 'rejected') {
      throw [kafka, postgres].find((server) => server.status === 'rejected')?.reason;
    }
    return {
      brokers: brokers ?? kafka.value?.brokers ?? '',
      databaseUrl: await createDatabase(databaseUrl ?? postgres.value?.url ?? '', 'bench'),
      kafka: kafka.value,
      postgres: postgres.value,
    };
  } catch (error) {
    await stop();
    throw error;
  }
}

async function closeServers({ kafka, postgres }: Servers): Promise<void> {
  await Promise.all([kafka?.stop(), postgres?.stop()]);
}
