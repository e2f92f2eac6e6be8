import type { Plan, ResultColumn, SourcePlan, StateColumn, TablePlan } from '@anabranch/compute';
import type { Source, Table } from '@anabranch/definition';
import { createDatabase, dropDatabase } from '@anabranch/servers';
import pg from 'pg';
import { afterAll, inject, onTestFinished } from 'vitest';
import { migrate } from './migrate.ts';
import { openPool } from './pool.ts';
import { createStaging, createTables } from './tables.ts';

/**
 * What the tests on the real Postgres share. The plans are written by hand, so that no DuckDB is
 * needed: as compute makes them, with all kinds of tables and of merges.
 */
const at = { file: 'test.yaml', line: 1, column: 1 };

export const source: Source = {
  name: 'orders',
  topic: 'orders',
  format: 'json',
  fields: [],
  eventTime: 'at',
  disorder: 0,
  maxSkew: 0,
  idleTimeout: null,
  maxRecordBytes: 1024,
  split: [{ name: 'bulk', when: { sql: 'true', at }, to: 'batch', divert: false }],
  defaultBranch: 'stream',
  batch: { every: 1000, cron: null, backlogBytes: null, freshWithin: null },
  hash: 'orders-1',
};

const base = {
  at,
  description: null,
  source: source.name,
  latency: null,
  dropNulls: [],
  where: null,
  columns: [],
};

const state = (
  name: string,
  postgresType: string,
  role: StateColumn['role'],
  merge: StateColumn['merge'] = null,
): StateColumn => ({ name, postgresType, role, merge });

const branchRecords = [
  state('_stream_records', 'bigint', 'stream_records', 'sum'),
  state('_batch_records', 'bigint', 'batch_records', 'sum'),
];

const coordinates = [
  state('_partition', 'integer', 'partition'),
  state('_offset', 'bigint', 'offset'),
  state('_event_time', 'timestamptz', 'event_time'),
];

const result = (name: string, postgresType: string, sql = `s."${name}"`): ResultColumn => ({
  name,
  postgresType,
  sql,
  comment: `the user's "${name}"`,
});

function planOf(
  table: Table,
  columns: readonly StateColumn[],
  results: readonly ResultColumn[],
): TablePlan {
  // The rest is for the processors.
  return { table, columns, results } as TablePlan;
}

/** A window of a minute with ten seconds of grace, grouped by a text and a number, both nullable. */
export const windowPlan = planOf(
  {
    ...base,
    kind: 'window',
    name: 'per_minute',
    window: { size: 60_000, grace: 10_000 },
    groupBy: ['region', 'kind'],
    aggregates: [],
    hash: 'per_minute-1',
  },
  [
    state('_window_start', 'timestamptz', 'window_start'),
    state('region', 'text', 'key'),
    state('kind', 'integer', 'key'),
    state('_total_sum', 'numeric', 'state', 'sum'),
    state('_low_min', 'bigint', 'state', 'least'),
    state('_high_max', 'text', 'state', 'greatest'),
    ...branchRecords,
  ],
  [
    result('region', 'text'),
    result('kind', 'integer'),
    result('total', 'numeric', 's."_total_sum"'),
    result('low', 'bigint', 's."_low_min"'),
    result('high', 'text', 's."_high_max"'),
  ],
);

/** No group: a row per window. */
export const totalPlan = planOf(
  {
    ...base,
    kind: 'window',
    name: 'total',
    window: { size: 60_000, grace: 0 },
    groupBy: [],
    aggregates: [],
    hash: 'total-1',
  },
  [
    state('_window_start', 'timestamptz', 'window_start'),
    state('_count_sum', 'bigint', 'state', 'sum'),
    ...branchRecords,
  ],
  [result('count', 'bigint', 's."_count_sum"')],
);

export const upsertPlan = planOf(
  { ...base, kind: 'upsert', name: 'latest', key: ['region'], hash: 'latest-1' },
  [
    ...coordinates,
    state('region', 'text', 'key'),
    state('amount', 'bigint', 'value'),
    ...branchRecords,
  ],
  [result('region', 'text'), result('amount', 'bigint')],
);

export const appendPlan = planOf(
  { ...base, kind: 'append', name: 'all_rows', hash: 'all_rows-1' },
  [...coordinates, state('note', 'text', 'value'), ...branchRecords],
  [result('note', 'text')],
);

/** @param schema of the views */
export function planWith(
  tables: readonly TablePlan[] = [windowPlan, totalPlan, upsertPlan, appendPlan],
  schema = 'public',
): Plan {
  const sourcePlan = { source, tables } as SourcePlan;
  return {
    definition: {
      file: at.file,
      schema,
      sources: [source],
      tables: tables.map(({ table }) => table),
    },
    sources: new Map([[source.name, sourcePlan]]),
    tables: new Map(tables.map((plan) => [plan.table.name, plan])),
  };
}

/**
 * One database for the tests of a file, emptied for each: to drop one costs a checkpoint, 0.4 s on a
 * busy machine.
 */
let database: Promise<string> | undefined;

afterAll(async () => {
  if (database !== undefined) {
    await dropDatabase(await database);
  }
});

/** An empty database, as long as the test runs. */
export async function emptyDatabase(): Promise<{ url: string; pool: pg.Pool }> {
  database ??= createDatabase(inject('databaseUrl'), 'test');
  const url = await database;
  const pool = poolOn(url);
  await pool.query(
    'DROP SCHEMA IF EXISTS public, anabranch, analytics CASCADE; CREATE SCHEMA public',
  );
  onTestFinished(() => pool.end());
  return { url, pool };
}

/** As `openPool`, and it may be left to itself when its database is dropped. */
export function poolOn(url: string, plan?: Plan, size = 4): pg.Pool {
  return openPool({
    ssl: false,
    url,
    applicationName: 'test',
    size,
    onError: () => undefined,
    ...(plan === undefined
      ? {}
      : { prepare: (client) => createStaging(client, plan.tables.values()) }),
  });
}

/** A database with the ledger and the tables of the plan. */
export async function databaseWith(
  plan: Plan,
): Promise<{ url: string; pool: pg.Pool; query: Query; connect: () => Promise<pg.PoolClient> }> {
  const { url } = await emptyDatabase();
  const pool = poolOn(url, plan, 8);
  onTestFinished(() => pool.end());
  await migrate(pool);
  await createTables(pool, plan, null);
  return {
    url,
    pool,
    query: async (text, values = []) => (await pool.query<Row>(text, values)).rows,
    connect: async () => {
      const client = await pool.connect();
      client.on('error', () => undefined);
      onTestFinished(() => {
        client.release(true);
      });
      return client;
    },
  };
}

// eslint-disable-next-line typescript/no-explicit-any -- a test says what it expects of a column
export type Row = Record<string, any>;
export type Query = (text: string, values?: unknown[]) => Promise<Row[]>;

/**
 * Until `waiting` waits for a lock that this connection holds: how tests order what two connections do.
 * @throws when it ends instead
 */
export async function waitUntilBlocked(
  pool: pg.Pool,
  by: pg.ClientBase,
  waiting: Promise<unknown>,
): Promise<void> {
  let ended = false;
  const end = (): void => {
    ended = true;
  };
  waiting.then(end, end);
  const { rows } = await by.query<{ pid: number }>('SELECT pg_backend_pid() AS pid');
  for (;;) {
    const { rowCount } = await pool.query(
      'SELECT FROM pg_stat_activity WHERE $1 = ANY (pg_blocking_pids(pid))',
      [rows[0]?.pid],
    );
    if (rowCount !== 0) {
      return;
    }
    if (ended) {
      throw new Error('Nothing waits for the lock.');
    }
  }
}

export const minute = 60_000_000n;

export interface WindowRow {
  /** Minutes since 1970. */
  readonly window: number;
  readonly region: string | null;
  readonly kind?: number | null;
  readonly total?: string | null;
  readonly low?: number | null;
  readonly high?: string | null;
  readonly stream?: number;
  readonly batch?: number;
}

const csv = (value: string | number | bigint | null | undefined): string =>
  value === null || value === undefined
    ? ''
    : typeof value === 'string'
      ? `"${value.replaceAll('"', '""')}"`
      : String(value);

const line = (...values: (string | number | bigint | null | undefined)[]): string =>
  `${values.map(csv).join(',')}\n`;

const time = (microseconds: bigint): string =>
  new Date(Number(microseconds / 1000n)).toISOString().replace('T', ' ').replace('Z', '+00');

/** Rows of `windowPlan` as a processor writes them. */
export function windowText(rows: readonly WindowRow[]): Buffer {
  return Buffer.from(
    rows
      .map(({ window, region, kind, total, low, high, stream = 1, batch = 0 }) =>
        line(time(BigInt(window) * minute), region, kind, total, low, high, stream, batch),
      )
      .join(''),
  );
}

/** Rows of `totalPlan`. */
export function totalText(
  rows: readonly { window: number; count: number; stream?: number; batch?: number }[],
): Buffer {
  return Buffer.from(
    rows
      .map(({ window, count, stream = count, batch = 0 }) =>
        line(time(BigInt(window) * minute), count, stream, batch),
      )
      .join(''),
  );
}

export interface RecordRow {
  readonly partition: number;
  readonly offset: number;
  /** Seconds since 1970. */
  readonly at: number;
  readonly stream?: number;
  readonly batch?: number;
}

/** Rows of `upsertPlan`. */
export function upsertText(
  rows: readonly (RecordRow & { region: string | null; amount: number | null })[],
): Buffer {
  return Buffer.from(
    rows
      .map(({ partition, offset, at: seconds, region, amount, stream = 1, batch = 0 }) =>
        line(partition, offset, time(BigInt(seconds) * 1_000_000n), region, amount, stream, batch),
      )
      .join(''),
  );
}

/** Rows of `appendPlan`. */
export function appendText(rows: readonly (RecordRow & { note: string | null })[]): Buffer {
  return Buffer.from(
    rows
      .map(({ partition, offset, at: seconds, note, stream = 1, batch = 0 }) =>
        line(partition, offset, time(BigInt(seconds) * 1_000_000n), note, stream, batch),
      )
      .join(''),
  );
}
