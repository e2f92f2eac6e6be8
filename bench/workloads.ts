import type pg from 'pg';
import { firstStranger, type Orders, schema } from './orders.ts';

/** Name of the table of each workload; where there are several, of the first. */
export const table = 'bench';

export interface Workload {
  readonly title: string;
  readonly branch: 'stream' | 'batch';
  /** The table's part of the definition. */
  readonly table: readonly string[];
  /** @throws when a row in Postgres isn't what the records say */
  readonly check: (db: pg.Pool, orders: Orders, name?: string) => Promise<void>;
}

const rowTable = [
  'drop_nulls: [price]',
  'columns:',
  '  order_id:',
  '  customer_id:',
  '  ts:',
  '  price:',
  '  quantity:',
  '  amount: price * quantity',
];

/** Grace is longer than the latest record is late: as with the peers, late records are plain updates. */
const windowTable = [
  'drop_nulls: [price]',
  'window: { tumbling: 1m, grace: 6m }',
  'group_by: [customer_id]',
  'aggregates:',
  '  records: count(*)',
  '  total: sum(price)',
  '  lowest: min(price)',
  '  highest: max(price)',
];

export const workloads = {
  w1: {
    title: 'a row per record: drop nulls, derived column',
    branch: 'stream',
    table: rowTable,
    check: checkRows,
  },
  w1k: {
    title: 'the same with a key, upserted',
    branch: 'stream',
    table: [...rowTable, 'key: [order_id]'],
    check: checkRows,
  },
  w2: {
    title: 'one-minute windows over 10,000 keys: count, sum, min, max',
    branch: 'stream',
    table: windowTable,
    check: checkWindows,
  },
  w2b: {
    title: 'the same windows, all through the batch branch, a run per 16 MiB or second',
    branch: 'batch',
    table: windowTable,
    check: checkWindows,
  },
} satisfies Record<string, Workload>;

export type WorkloadName = keyof typeof workloads;

export interface DefinitionOptions {
  readonly topic: string;
  readonly source: string;
  /** Of each table, as the definition has it; undefined: none. */
  readonly latency?: string;
  /** How many tables, all alike. Default 1. */
  readonly tables?: number;
  /** When a batch run begins. */
  readonly batch?: string;
}

/** `bench`, `bench_2` and so on. */
export function tableNames(count: number): string[] {
  return Array.from({ length: count }, (_, i) => (i === 0 ? table : `${table}_${i + 1}`));
}

/** Files of the definition, by name. */
export function definitionOf({ branch, table: lines }: Workload, options: DefinitionOptions) {
  const { topic, source, latency, tables = 1, batch = '{ every: 1s, backlog: 16MiB }' } = options;
  const goal = latency === undefined ? [] : [`latency: ${latency}`];
  return {
    'orders.avsc': JSON.stringify(schema),
    'anabranch.yaml': `
sources:
  ${source}:
    topic: ${topic}
    schema: orders.avsc
    event_time: ts
    # The records are of a fixed day, so that every run has the same.
    idle_timeout: never
    default_branch: ${branch}
    batch: ${batch}
tables:
${tableNames(tables)
  .map(
    (name) => `  ${name}:
    source: ${source}
${[...goal, ...lines].map((line) => `    ${line}`).join('\n')}`,
  )
  .join('\n')}
`,
  };
}

/** @throws when a table with a row per record isn't what the records say */
export async function checkRows(
  db: pg.Pool,
  { rows: truth }: Orders,
  tableName = table,
): Promise<void> {
  const { rows } = await db.query<Record<string, string>>(`
    SELECT count(*) AS rows, sum(order_id) AS "orderIds", sum(customer_id) AS "customerIds",
      sum(quantity) AS quantities, sum(amount * 100)::bigint AS amounts,
      count(DISTINCT order_id) AS distinct, count(*) FILTER (WHERE amount <> price * quantity) AS wrong
    FROM ${tableName}`);
  const found = rows[0] ?? {};
  const expected = {
    rows: truth.rows,
    orderIds: truth.orderIds,
    customerIds: truth.customerIds,
    quantities: truth.quantities,
    amounts: truth.amounts,
    distinct: truth.rows,
    wrong: 0,
  };
  const wrong = Object.entries(expected).filter(([name, value]) => found[name] !== String(value));
  if (wrong.length > 0) {
    throw new Error(
      `The rows in Postgres are wrong: ${wrong.map(([name, value]) => `${name} is ${found[name]} and should be ${value}`).join(', ')}`,
    );
  }
}

function checkWindows(db: pg.Pool, orders: Orders, name = table): Promise<void> {
  return checkWindowsOf(db, orders, {
    name,
    milliseconds: 'extract(epoch FROM window_start)::bigint * 1000',
    startAt: "timestamptz 'epoch' + $1 * interval '1 millisecond'",
  });
}

/** How a table of windows says when they start. */
export interface WindowsTable {
  readonly name: string;
  /** SQL: `window_start` in milliseconds since 1970. */
  readonly milliseconds: string;
  /** SQL: `$1`, which is that, as a `window_start`. */
  readonly startAt: string;
}

/** A window after another, so that a million rows needn't be in memory at once. @throws as above */
export async function checkWindowsOf(
  db: pg.Pool,
  orders: Orders,
  { name, milliseconds, startAt }: WindowsTable,
): Promise<void> {
  const { rows: counted } = await db.query<{ count: string }>(
    `SELECT count(*) FROM ${name} WHERE customer_id < ${firstStranger}`,
  );
  const found = Number(counted[0]?.count);
  if (found !== orders.windowCount) {
    throw new Error(`Postgres has ${found} windows, and there should be ${orders.windowCount}`);
  }
  let checked = 0;
  for (const at of orders.windowStarts) {
    const { rows } = await db.query<Record<'start' | 'customer_id' | 'state', string>>(
      `SELECT ${milliseconds} AS start, customer_id,
        concat_ws(' ', records, (total * 100)::bigint, (lowest * 100)::bigint, (highest * 100)::bigint) AS state
      FROM ${name} WHERE window_start = ${startAt} AND customer_id < ${firstStranger}`,
      [at],
    );
    checked += rows.length;
    for (const { start, customer_id: customer, state } of rows) {
      const truth = orders.window(Number(start), Number(customer));
      const expected = truth && `${truth.count} ${truth.sum} ${truth.min} ${truth.max}`;
      if (state !== expected) {
        throw new Error(
          `Customer ${customer}, window ${start}: Postgres says ${state}, and it should be ${expected ?? 'no row'}`,
        );
      }
    }
  }
  if (checked !== found) {
    throw new Error(`Of the ${found} windows in Postgres ${found - checked} are of other minutes`);
  }
}

/** @throws when the ledger says that a record was lost, refused or counted twice */
export async function checkLedger(db: pg.Pool, orders: Orders, tableName = table): Promise<void> {
  const { rows: balance } = await db.query<Record<string, string>>(
    `SELECT records, aggregated, filtered, dead, outstanding FROM anabranch.balance WHERE table_name = $1`,
    [tableName],
  );
  const expected = {
    records: orders.total,
    aggregated: orders.rows.rows,
    filtered: orders.rows.nulls,
    dead: 0,
    outstanding: 0,
  };
  const found = balance[0] ?? {};
  if (Object.entries(expected).some(([name, value]) => found[name] !== String(value))) {
    throw new Error(
      `The ledger says ${JSON.stringify(found)}, and it should be ${JSON.stringify(expected)}`,
    );
  }
  for (const name of ['ledger_faults', 'conflicts']) {
    const { rowCount } = await db.query(`SELECT FROM anabranch.${name}`);
    if (rowCount !== 0) {
      throw new Error(`anabranch.${name} has ${rowCount} rows`);
    }
  }
}
