import { mkdirSync, writeFileSync } from 'node:fs';
import path from 'node:path';
import { setTimeout as pause } from 'node:timers/promises';
import { internalTopics } from '@anabranch/contract';
import { type ServiceName, serviceNames, ServiceProcess } from '@anabranch/servers';
import type { Contender, Progress } from './contender.ts';
import type { Extent } from './filled-topic.ts';
import type { Orders } from './orders.ts';
import { costOf, peakMemoryOf, type ProcessCost, sumOfCosts } from './process-cost.ts';
import type { BenchDatabase, BenchServers } from './servers.ts';
import { checkLedger, definitionOf, table, tableNames, type Workload } from './workloads.ts';

export type Settings = Readonly<Partial<Record<ServiceName, Readonly<Record<string, string>>>>>;

export interface ChainOptions {
  /** For definition, spool and logs; made if needed. */
  readonly directory: string;
  readonly topic: string;
  readonly workload: Workload;
  /** Of each table, as the definition has it. */
  readonly latency?: string;
  readonly tables?: number;
  readonly batch?: string;
  /** Of each service. Default 1. */
  readonly instances?: number;
  /** Further settings of each service. */
  readonly settings: Settings;
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

interface Applied {
  readonly stream: number;
  readonly batch: number;
}

let chains = 0;

/** The four services as processes, on a topic. */
export class Chain implements Contender {
  readonly pollMilliseconds = 25;
  readonly database: BenchDatabase;
  readonly #options: ChainOptions;
  readonly #servers: BenchServers;
  /** Another one each time, so that no group has an offset of a chain before on the same topic. */
  readonly #source: string;
  #services: ServiceProcess[] = [];

  static async open(servers: BenchServers, options: ChainOptions): Promise<Chain> {
    mkdirSync(options.directory, { recursive: true });
    return new Chain(servers, options, await servers.openDatabase());
  }

  private constructor(servers: BenchServers, options: ChainOptions, database: BenchDatabase) {
    this.#servers = servers;
    this.#options = options;
    this.database = database;
    this.#source = `orders_${++chains}`;
  }

  get topics(): ReturnType<typeof internalTopics> {
    return internalTopics(this.#options.topic);
  }

  start(): Promise<void> {
    this.#start(serviceNames);
    return Promise.resolve();
  }

  #start(names: readonly ServiceName[]): void {
    const {
      directory,
      workload,
      settings,
      instances = 1,
      topic,
      latency,
      tables,
      batch,
    } = this.#options;
    const files = definitionOf(workload, {
      topic,
      source: this.#source,
      ...(latency !== undefined && { latency }),
      ...(tables !== undefined && { tables }),
      ...(batch !== undefined && { batch }),
    });
    for (const [name, content] of Object.entries(files)) {
      writeFileSync(path.join(directory, name), content);
    }
    this.#services = Array.from({ length: instances }, (_, instance) =>
      names.map(
        (service) =>
          new ServiceProcess({
            service,
            instance: `bench-${instance + 1}`,
            directory: path.join(directory, 'services'),
            brokers: this.#servers.brokers,
            databaseUrl: this.database.url,
            definition: path.join(directory, 'anabranch.yaml'),
            env: settings[service] ?? {},
          }),
      ),
    ).flat();
  }

  async #stop(): Promise<void> {
    await Promise.all(this.#services.map((service) => service.stop()));
    this.#services = [];
  }

  async progress({ records }: Extent): Promise<Progress> {
    const applied = await this.#applied();
    const committed = applied[this.#options.workload.branch];
    return {
      committed,
      done: committed >= records,
      settled: applied.stream >= records && applied.batch >= records,
    };
  }

  /** How many records each branch has accounted for in Postgres; 0 while there is no table yet. */
  async #applied(): Promise<Applied> {
    const none = { stream: 0, batch: 0 };
    try {
      const { rows } = await this.database.pool.query<Record<keyof Applied, string>>({
        name: 'applied',
        text: `SELECT coalesce(sum(stream_records + batch_records + dead_records) FILTER (WHERE branch = 'stream'), 0) AS stream,
            coalesce(sum(stream_records + batch_records + dead_records) FILTER (WHERE branch = 'batch'), 0) AS batch
          FROM anabranch.ledger WHERE source = $1`,
        values: [this.#source],
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

  async checkRunning(): Promise<void> {
    const ended = this.#services.find(({ isRunning }) => !isRunning);
    if (ended !== undefined) {
      // Its error has the end of its log.
      await ended.readiness();
    }
  }

  /** Lets fusion alone make the tables, so that they can be filled before the first record. */
  async makeTables(): Promise<void> {
    this.#start(['fusion']);
    const ready = async (): Promise<boolean> => {
      const { rows } = await this.database.pool.query<{ name: string | null }>(
        `SELECT to_regclass('anabranch.state_${table}')::text AS name`,
      );
      return (rows[0]?.name ?? null) !== null;
    };
    while (!(await ready())) {
      await this.checkRunning();
      await pause(this.pollMilliseconds, undefined, { signal: this.#servers.signal });
    }
    await this.#stop();
  }

  costs(): Readonly<Record<ServiceName, ProcessCost | null>> {
    return this.#ofServices((pids) => sumOfCosts(pids.map(costOf)));
  }

  peakMemory(): Readonly<Record<ServiceName, number | null>> {
    return this.#ofServices((pids) =>
      pids.reduce((sum, pid) => sum + (peakMemoryOf(pid) ?? Number.NaN), 0),
    );
  }

  async verify(orders: Orders): Promise<void> {
    const { workload, tables = 1 } = this.#options;
    for (const name of tableNames(tables)) {
      await workload.check(this.database.pool, orders, name);
      await checkLedger(this.database.pool, orders, name);
    }
  }

  /** Where the services' steps have spent their time so far, ingest's by its metrics. */
  async stageCosts(): Promise<StageCost[]> {
    const { rows } = await this.database.pool.query<Record<keyof StageCost, string>>(`
      SELECT service, branch, sum(steps) AS steps, sum(records) AS records, sum(rows_written) AS rows,
        sum(load_seconds) AS load, sum(preprocess_seconds) AS preprocess, sum(process_seconds) AS process,
        sum(store_seconds) AS store
      FROM anabranch.stage_costs WHERE service <> 'ingest' GROUP BY 1, 2 ORDER BY 1, 2`);
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
    return [await this.stagesOf('ingest'), ...stored];
  }

  /** What the metrics of a service say, its instances together. */
  async stagesOf(name: ServiceName): Promise<StageCost> {
    const texts = await Promise.all(
      this.#services.filter(({ service }) => service === name).map((service) => service.metrics()),
    );
    const text = texts.join('\n');
    const sumOf = (pattern: string): number =>
      [...text.matchAll(new RegExp(`^${pattern} (\\S+)$`, 'gm'))].reduce(
        (sum, [, value]) => sum + Number(value),
        0,
      );
    const stage = (stageName: string): number =>
      sumOf(`anabranch_step_seconds_sum\\{[^}]*stage="${stageName}"[^}]*\\}`);
    return {
      service: name,
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

  /** Bytes of write-ahead log so far. */
  async walBytes(): Promise<number> {
    const { rows } = await this.database.pool.query<{ bytes: string }>(
      `SELECT pg_current_wal_lsn() - '0/0'::pg_lsn AS bytes`,
    );
    return Number(rows[0]?.bytes);
  }

  async close(): Promise<void> {
    await this.#stop();
    await this.#servers.deleteTopics(Object.values(this.topics));
    await this.database.close();
  }

  #ofServices<T>(measure: (pids: readonly number[]) => T): Readonly<Record<ServiceName, T>> {
    return Object.fromEntries(
      serviceNames.map((name) => [
        name,
        measure(this.#services.filter(({ service }) => service === name).map(({ pid }) => pid)),
      ]),
    ) as Record<ServiceName, T>;
  }
}
