import type pg from 'pg';
import { type Orders, schema } from './orders.ts';

/** Name of the source, and of the one table of each workload. */
export const source = 'orders';
export const table = 'bench';

export interface Workload {
  readonly title: string;
  readonly branch: 'stream' | 'batch';
  /** The table's part of the definition. */
  readonly table: readonly string[];
  /** @throws when a row in Postgres isn't what the records say */
  readonly check: (db: pg.Pool, orders: Orders) => Promise<void>;
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

/** Files of the definition, by name. */
export function definitionOf({ branch, table: lines }: Workload, topic: string) {
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
    batch: { every: 1s, backlog: 16MiB }
tables:
  ${table}:
    source: ${source}
${lines.map((line) => `    ${line}`).join('\n')}
`,
  };
}

async function checkRows(db: pg.Pool, { rows: truth }: Orders): Promise<void> {
  const { rows } = await db.query<Record<string, string>>(`
    SELECT count(*) AS rows, sum(order_id) AS "orderIds", sum(customer_id) AS "customerIds",
      sum(quantity) AS quantities, sum(amount * 100)::bigint AS amounts,
      count(DISTINCT order_id) AS distinct, count(*) FILTER (WHERE amount <> price * quantity) AS wrong
    FROM ${table}`);
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

async function checkWindows(db: pg.Pool, orders: Orders): Promise<void> {
  const { rows } = await db.query<Record<'start' | 'customer_id' | 'state', string>>(`
    SELECT extract(epoch FROM window_start)::bigint * 1000 AS start, customer_id,
      concat_ws(' ', records, (total * 100)::bigint, (lowest * 100)::bigint, (highest * 100)::bigint) AS state
    FROM ${table}`);
  if (rows.length !== orders.windowCount) {
    throw new Error(
      `Postgres has ${rows.length} windows, and there should be ${orders.windowCount}`,
    );
  }
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

/** @throws when the ledger says that a record was lost, refused or counted twice */
export async function checkLedger(db: pg.Pool, orders: Orders): Promise<void> {
  const { rows: balance } = await db.query<Record<string, string>>(
    `SELECT records, aggregated, filtered, dead, outstanding FROM anabranch.balance WHERE table_name = $1`,
    [table],
  );
  const expected = {
    records: orders.made,
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
