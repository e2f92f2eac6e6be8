import { mkdirSync } from 'node:fs';
import path from 'node:path';
import { connect, type Kafka } from '@anabranch/kafka';
import {
  createDatabase,
  dropDatabase,
  type LocalKafka,
  type LocalPostgres,
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

export const serverNames = ['broker', 'postgres'] as const;
export type PerServer<T> = Readonly<Record<(typeof serverNames)[number], T>>;

export interface ServersOptions {
  /** For their data and logs; made if needed. */
  readonly directory: string;
  /** Undefined: local ones are started. */
  readonly brokers: string | undefined;
  readonly databaseUrl: string | undefined;
  readonly onProgress: (message: string) => void;
  readonly signal: AbortSignal;
}

const quiet = { debug() {}, info() {}, warn() {}, error() {} };
const connectMilliseconds = 60_000;

/** The broker and the Postgres of a series of runs. */
export class BenchServers {
  readonly brokers: string;
  readonly kafka: Kafka;
  readonly options: ServersOptions;
  readonly #postgresUrl: string;
  readonly #localKafka: LocalKafka | undefined;
  readonly #localPostgres: LocalPostgres | undefined;
  /** Sessions of the bench itself: what they cost isn't the contenders'. */
  readonly #ownSessions = new Set<number>();

  static async open(options: ServersOptions): Promise<BenchServers> {
    const { directory, brokers, databaseUrl, onProgress, signal } = options;
    mkdirSync(directory, { recursive: true });
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
      const addresses = brokers ?? kafka.value?.brokers ?? '';
      const timeout = AbortSignal.any([signal, AbortSignal.timeout(connectMilliseconds)]);
      const client = await connect(
        { brokers: addresses.split(','), clientId: 'bench', logger: quiet },
        timeout,
      ).catch((cause: unknown) => {
        throw new Error(`No Kafka answers at ${addresses}: ${(cause as Error).message}`, { cause });
      });
      const url = databaseUrl ?? postgres.value?.url ?? '';
      return new BenchServers(options, addresses, url, client, kafka.value, postgres.value);
    } catch (error) {
      await stop();
      throw error;
    }
  }

  private constructor(
    options: ServersOptions,
    brokers: string,
    postgresUrl: string,
    kafka: Kafka,
    localKafka: LocalKafka | undefined,
    localPostgres: LocalPostgres | undefined,
  ) {
    this.options = options;
    this.brokers = brokers;
    this.#postgresUrl = postgresUrl;
    this.kafka = kafka;
    this.#localKafka = localKafka;
    this.#localPostgres = localPostgres;
  }

  get signal(): AbortSignal {
    return this.options.signal;
  }

  /** An empty database for one run, behind a checkpoint so that every run begins alike. */
  async openDatabase(): Promise<BenchDatabase> {
    const url = await createDatabase(this.#postgresUrl, 'bench');
    const pool = new pg.Pool({
      connectionString: url,
      max: 2,
      // A session that ends hands what it cost to its parent, where it can't be told from others'.
      idleTimeoutMillis: 0,
      application_name: 'bench',
      options: '-c TimeZone=UTC',
    });
    pool.on('error', () => undefined);
    pool.on('connect', (client) => {
      this.#ownSessions.add((client as pg.PoolClient & { processID: number }).processID);
    });
    // Not everybody may.
    await pool.query('CHECKPOINT').catch(() => undefined);
    return {
      url,
      pool,
      close: async () => {
        await pool.end();
        await dropDatabase(url);
      },
    };
  }

  /** CPU that each has used since it began; null where that isn't known. */
  costs(): PerServer<ProcessCost | null> {
    return {
      broker: this.#localKafka?.pid === undefined ? null : costOf(this.#localKafka.pid),
      postgres:
        this.#localPostgres?.pid === undefined
          ? null
          : costOfFamily(this.#localPostgres.pid, this.#ownSessions),
    };
  }

  /** Bytes. */
  peakMemory(): PerServer<number | null> {
    return {
      broker: this.#localKafka?.pid === undefined ? null : peakMemoryOf(this.#localKafka.pid),
      postgres:
        this.#localPostgres?.pid === undefined ? null : peakMemoryOfFamily(this.#localPostgres.pid),
    };
  }

  async deleteTopics(topics: readonly string[]): Promise<void> {
    for (const topic of topics) {
      await this.kafka.admin.deleteTopics([topic]).catch(() => undefined);
    }
  }

  async close(): Promise<void> {
    await this.kafka.close();
    await Promise.all([this.#localKafka?.stop(), this.#localPostgres?.stop()]);
  }
}

export interface BenchDatabase {
  readonly url: string;
  readonly pool: pg.Pool;
  /** Drops it. */
  close(): Promise<void>;
}
