import pg from 'pg';
import { expect, it } from 'vitest';
import { isWindow, stagingTable, stateTable } from '../tables.ts';
import {
  appendPlan,
  appendText,
  databaseWith,
  planWith,
  type RecordRow,
  type Row,
  totalPlan,
  totalText,
  upsertPlan,
  upsertText,
  windowPlan,
  windowText,
} from '../testing.ts';
import { transaction } from '../transaction.ts';
import { copyRows } from './copy-rows.ts';
import { mergeUpsert } from './merge-upsert.ts';
import { mergeWindow } from './merge-window.ts';

/** Merges texts one after the other, each as a transaction of its own. */
async function merged(
  plan: typeof windowPlan,
  texts: readonly Buffer[][],
  columns: string,
): Promise<Row[]> {
  const { pool, query } = await databaseWith(planWith([plan]));
  const { name } = plan.table;
  const names = plan.columns.map((column) => pg.escapeIdentifier(column.name));
  for (const step of texts) {
    await transaction(pool, async (client) => {
      if (plan.table.kind === 'append') {
        await copyRows(client, stateTable(name), names, step);
      } else {
        await copyRows(client, stagingTable(name), names, step);
        await client.query(isWindow(plan) ? mergeWindow(plan) : mergeUpsert(plan));
      }
    });
  }
  return query(`SELECT ${columns} FROM ${name}`);
}

const byJson = (rows: readonly Row[]): Row[] =>
  [...rows].toSorted((a, b) => (text(a) < text(b) ? -1 : 1));
const text = (row: Row): string =>
  JSON.stringify(row, (_, value: unknown) => (typeof value === 'bigint' ? `${value}` : value));

it('adds up, keeps the least and the greatest, and lets a NULL state give way, within a step and between steps', async () => {
  const rows = await merged(
    windowPlan,
    [
      [
        windowText([
          { window: 1, region: 'a', kind: 1, total: '0.10', low: 5, high: 'Zz' },
          { window: 1, region: 'b', kind: 1, total: null, low: null, high: null },
        ]),
        windowText([
          { window: 1, region: 'a', kind: 1, total: '0.20', low: null, high: 'a', batch: 2 },
          {
            window: 1,
            region: 'c',
            kind: 1,
            total: '99999999999999999999999.01',
            low: 1,
            high: '',
          },
        ]),
      ],
      [
        windowText([
          { window: 1, region: 'a', kind: 1, total: null, low: 9_007_199_254_740, high: 'é' },
          { window: 1, region: 'b', kind: 1, total: '-1', low: -3, high: '' },
          { window: 1, region: 'c', kind: 1, total: '0.01', low: 1, high: null },
          { window: 2, region: 'a', kind: 1, total: '1', low: 1, high: 'a', stream: 0, batch: 3 },
        ]),
      ],
    ],
    'region, total, low, high, revision, stream_records, batch_records',
  );
  expect(byJson(rows)).toEqual([
    {
      region: 'a',
      total: '0.30',
      low: 5n,
      high: 'é',
      revision: 2n,
      stream_records: 3n,
      batch_records: 2n,
    },
    {
      region: 'a',
      total: '1',
      low: 1n,
      high: 'a',
      revision: 1n,
      stream_records: 0n,
      batch_records: 3n,
    },
    {
      region: 'b',
      total: '-1',
      low: -3n,
      high: '',
      revision: 2n,
      stream_records: 2n,
      batch_records: 0n,
    },
    {
      region: 'c',
      total: '99999999999999999999999.02',
      low: 1n,
      high: '',
      revision: 2n,
      stream_records: 2n,
      batch_records: 0n,
    },
  ]);
});

it('takes nulls for equal in a key, and an empty text for none of them', async () => {
  const step = [
    windowText([
      { window: 1, region: null, kind: null, total: '1' },
      { window: 1, region: null, kind: 1, total: '10' },
      { window: 1, region: '', kind: null, total: '100' },
      { window: 1, region: 'x', kind: null, total: '1000' },
    ]),
  ];
  const rows = await merged(windowPlan, [step, step, [...step, ...step]], 'region, kind, total');
  expect(byJson(rows)).toEqual([
    { region: '', kind: null, total: '400' },
    { region: 'x', kind: null, total: '4000' },
    { region: null, kind: 1, total: '40' },
    { region: null, kind: null, total: '4' },
  ]);
});

it('keeps every text key as it is: quotes, commas, line breaks, backslashes, unicode', async () => {
  const keys = [
    'a"b',
    '""',
    'a,b',
    'a\nb',
    'a\r\nb',
    '\\',
    '\\.',
    '\\N',
    'NULL',
    ' x ',
    '\t',
    'ß',
    'ẞ',
    '日本',
    '😀',
    'e\u0301',
    'é',
  ];
  const step = [windowText(keys.map((region) => ({ window: 1, region, kind: 1, total: '1' })))];
  const rows = await merged(windowPlan, [step, step], 'region, total');
  expect(byJson(rows)).toEqual(byJson(keys.map((region) => ({ region, total: '2' }))));
});

it('has one row for a window without groups', async () => {
  const rows = await merged(
    totalPlan,
    [
      [
        totalText([{ window: 1, count: 3 }]),
        totalText([{ window: 1, count: 2, stream: 0, batch: 2 }]),
      ],
      [totalText([{ window: 1, count: 1 }])],
    ],
    'count, window_start, window_end, stream_records, batch_records',
  );
  expect(rows).toEqual([
    {
      count: 6n,
      window_start: new Date(60_000),
      window_end: new Date(120_000),
      stream_records: 4n,
      batch_records: 2n,
    },
  ]);
});

const writes: (RecordRow & { region: string | null; amount: number | null })[] = [
  { partition: 0, offset: 7, at: 100, region: 'a', amount: 1 },
  { partition: 0, offset: 3, at: 101, region: 'a', amount: null, stream: 0, batch: 1 },
  { partition: 1, offset: 1, at: 101, region: 'a', amount: 3 },
  { partition: 1, offset: 2, at: 101, region: 'a', amount: 4 },
  { partition: 2, offset: 9, at: 99, region: null, amount: 5 },
  { partition: 2, offset: 8, at: 99, region: null, amount: 6, stream: 0, batch: 4 },
];

it.each([
  ['in order', writes, 6],
  ['in reverse', writes.toReversed(), 6],
  ['two a step', [writes[3]!, writes[0]!, writes[5]!, writes[4]!, writes[2]!, writes[1]!], 3],
  ['in one step', [writes[2]!, writes[4]!, writes[3]!, writes[0]!, writes[5]!, writes[1]!], 1],
])('lets the last writer by event time, partition and offset win: %s', async (_, order, steps) => {
  const size = order.length / steps;
  const texts = Array.from({ length: steps }, (__, step) =>
    order.slice(step * size, (step + 1) * size).map((row) => upsertText([row])),
  );
  const rows = await merged(
    upsertPlan,
    texts,
    'region, amount, status, stream_records, batch_records',
  );
  expect(byJson(rows)).toEqual([
    { region: 'a', amount: 4n, status: 'provisional', stream_records: 3n, batch_records: 1n },
    { region: null, amount: 5n, status: 'provisional', stream_records: 1n, batch_records: 4n },
  ]);
});

it('lets a newer null replace a value', async () => {
  const rows = await merged(upsertPlan, [[upsertText(writes.slice(0, 2))]], 'amount');
  expect(rows).toEqual([{ amount: null }]);
});

it('appends the row of every record as it came, and tells an empty text from NULL', async () => {
  const notes = ['', null, '"', 'a,\n"b"', '\\.'];
  const rows = await merged(
    appendPlan,
    [notes.map((note, offset) => appendText([{ partition: 3, offset, at: 5, note }]))],
    'source_partition, source_offset, note, status, revision, stream_records',
  );
  expect(rows).toEqual(
    notes.map((note, offset) => ({
      source_partition: 3,
      source_offset: BigInt(offset),
      note,
      status: 'final',
      revision: 1n,
      stream_records: 1n,
    })),
  );
});

it('leaves the connection usable when Postgres refuses a row in the middle of much text', async () => {
  const { pool } = await databaseWith(planWith([appendPlan]));
  const names = appendPlan.columns.map((column) => pg.escapeIdentifier(column.name));
  const good = appendText(
    Array.from({ length: 20_000 }, (_, offset) => ({
      partition: 0,
      offset,
      at: 5,
      note: 'x'.repeat(50),
    })),
  );
  const copy = (client: pg.PoolClient, texts: Buffer[]): Promise<void> =>
    copyRows(client, stateTable('all_rows'), names, texts);
  const client = await pool.connect();
  try {
    for (const texts of [
      [Buffer.from('nonsense\n'), good, good],
      [good, good, Buffer.from('0,x\n')],
    ]) {
      await client.query('BEGIN');
      await expect(copy(client, texts)).rejects.toMatchObject({ code: '22P02' });
      await client.query('ROLLBACK');
      await client.query('BEGIN');
      await copy(client, [good]);
      const { rows } = await client.query('SELECT count(*)::int AS rows FROM all_rows');
      expect(rows).toEqual([{ rows: 20_000 }]);
      await client.query('ROLLBACK');
    }
  } finally {
    client.release();
  }
});
