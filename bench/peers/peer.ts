import { type ChildProcess, spawn } from 'node:child_process';
import { once } from 'node:events';
import { closeSync, mkdirSync, openSync, readFileSync } from 'node:fs';
import path from 'node:path';
import type { Contender, Progress } from '../contender.ts';
import type { Extent } from '../filled-topic.ts';
import type { Orders } from '../orders.ts';
import { costOf, peakMemoryOf, type ProcessCost } from '../process-cost.ts';
import type { BenchDatabase, BenchServers } from '../servers.ts';
import { checkRows, checkWindowsOf, table } from '../workloads.ts';

export const peerNames = ['node', 'flink'] as const;
export type PeerName = (typeof peerNames)[number];

/** The workloads that peers have programs for: a row per record with a key, windows. */
export type PeerWorkload = 'w1' | 'w2';

/** How long a peer may gather before it writes, in milliseconds, where it gathers at all. */
export type Flush = 1000 | 200;

export interface PeerOptions {
  /** For its log and what it writes to disk; made if needed. */
  readonly directory: string;
  readonly topic: string;
  readonly partitions: number;
  readonly workload: PeerWorkload;
  readonly flush: Flush;
}

/** What is started, in the peer's directory. It ends when its standard input does. */
export interface PeerCommand {
  readonly program: string;
  readonly arguments: readonly string[];
}

/** Money is `numeric` and keys are the same as in our tables. */
const tables: Readonly<Record<PeerWorkload, string>> = {
  w1: `CREATE TABLE ${table} (order_id bigint PRIMARY KEY, customer_id int NOT NULL, ts bigint NOT NULL,
    price numeric(9, 2) NOT NULL, quantity int NOT NULL, amount numeric(12, 2) NOT NULL)`,
  w2: `CREATE TABLE ${table} (window_start bigint, customer_id int, records bigint NOT NULL,
    total numeric(38, 2) NOT NULL, lowest numeric(9, 2) NOT NULL, highest numeric(9, 2) NOT NULL,
    PRIMARY KEY (window_start, customer_id)) WITH (fillfactor = 70)`,
};

const nearlyAll = 0.97;

/** A program that others would use in our place, as a process. */
export class Peer implements Contender {
  readonly name: PeerName;
  readonly database: BenchDatabase;
  readonly #options: PeerOptions;
  readonly #command: PeerCommand;
  readonly #logFile: string;
  #child: ChildProcess | undefined;
  /** Of the table, when it was last looked at, and when its rows were last counted. */
  #bytes = 0;
  #counted = { rows: 0, bytes: 0 };
  #isNearTheEnd = false;

  /** @param command makes the command from the URL of the database */
  static async open(
    name: PeerName,
    servers: BenchServers,
    options: PeerOptions,
    command: (databaseUrl: string) => PeerCommand,
  ): Promise<Peer> {
    mkdirSync(options.directory, { recursive: true });
    const database = await servers.openDatabase();
    await database.pool.query(tables[options.workload]);
    return new Peer(name, options, database, command(database.url));
  }

  private constructor(
    name: PeerName,
    options: PeerOptions,
    database: BenchDatabase,
    command: PeerCommand,
  ) {
    this.name = name;
    this.database = database;
    this.#options = options;
    this.#command = command;
    this.#logFile = path.join(options.directory, `${name}.log`);
  }

  /** To look takes some milliseconds: not too often, but at the end. */
  get pollMilliseconds(): number {
    return this.#isNearTheEnd ? 50 : 200;
  }

  start(): Promise<void> {
    const log = openSync(this.#logFile, 'a');
    this.#child = spawn(this.#command.program, this.#command.arguments, {
      cwd: this.#options.directory,
      stdio: ['pipe', log, log],
    });
    // Its log says why, and `checkRunning` finds it ended.
    this.#child.on('error', () => undefined);
    this.#child.stdin?.on('error', () => undefined);
    closeSync(log);
    return Promise.resolve();
  }

  async progress({ records, counting }: Extent): Promise<Progress> {
    const seen =
      this.#options.workload === 'w1'
        ? await this.#rows(nearlyAll * counting)
        : await this.#recordsInWindows();
    this.#isNearTheEnd = seen >= nearlyAll * counting;
    const done = seen >= counting;
    return { committed: Math.round((seen / counting) * records), done, settled: done };
  }

  async #recordsInWindows(): Promise<number> {
    const { rows } = await this.database.pool.query<{ sum: string }>({
      name: 'counted',
      text: `SELECT coalesce(sum(records), 0) AS sum FROM ${table}`,
    });
    return Number(rows[0]?.sum);
  }

  /**
   * Rows, estimated from the table's size, since to count millions takes too long. They are counted
   * whenever the table has doubled (rows that are on their way count in its size), when it no longer
   * grows, and when there seem to be as many as this.
   */
  async #rows(exactFrom: number): Promise<number> {
    const { rows } = await this.database.pool.query<{ bytes: string }>({
      name: 'size',
      text: `SELECT pg_relation_size('${table}') AS bytes`,
    });
    const bytes = Number(rows[0]?.bytes);
    const hasGrown = bytes !== this.#bytes;
    this.#bytes = bytes;
    if (hasGrown && bytes < 2 * this.#counted.bytes) {
      const estimate = (bytes / this.#counted.bytes) * this.#counted.rows;
      if (estimate < exactFrom) {
        return estimate;
      }
    }
    const { rows: counted } = await this.database.pool.query<{ count: string }>({
      name: 'rows',
      text: `SELECT count(*) FROM ${table}`,
    });
    this.#counted = { rows: Number(counted[0]?.count), bytes };
    return this.#counted.rows;
  }

  costs(): Readonly<Record<string, ProcessCost | null>> {
    const pid = this.#child?.pid;
    return { app: pid === undefined ? { seconds: 0, threads: {} } : costOf(pid) };
  }

  peakMemory(): Readonly<Record<string, number | null>> {
    const pid = this.#child?.pid;
    return { app: pid === undefined ? null : peakMemoryOf(pid) };
  }

  checkRunning(): Promise<void> {
    const child = this.#child;
    if (child === undefined || child.pid === undefined || child.exitCode !== null) {
      const log = readFileSync(this.#logFile, 'utf8').split('\n').slice(-20).join('\n');
      throw new Error(`${this.name} has ended; its log is ${this.#logFile}:\n${log}`);
    }
    return Promise.resolve();
  }

  verify(orders: Orders): Promise<void> {
    return this.#options.workload === 'w1'
      ? checkRows(this.database.pool, orders)
      : checkWindowsOf(this.database.pool, orders, {
          name: table,
          milliseconds: 'window_start',
          startAt: '$1',
        });
  }

  async close(): Promise<void> {
    const child = this.#child;
    if (child?.pid !== undefined && child.exitCode === null && child.signalCode === null) {
      const exited = once(child, 'exit');
      child.stdin?.end();
      await exited;
    }
    await this.database.close();
  }
}
