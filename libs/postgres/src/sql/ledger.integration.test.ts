import type { DeadLetter, RunShare } from '@anabranch/contract';
import { expect, it } from 'vitest';
import { databaseWith, planWith, source, waitUntilBlocked } from '../testing.ts';
import { countRecords } from './count-records.ts';
import { readPositions, writePositions } from './positions.ts';
import { recordConflict } from './record-conflict.ts';
import { type CoveredRun, recordRuns } from './record-runs.ts';
import { storeDeadLetters } from './store-dead-letters.ts';

const letter: DeadLetter = {
  offset: 5n,
  timestamp: 1_000n,
  table: null,
  code: 'malformed',
  reason: 'no JSON',
  key: Buffer.from('k'),
  value: Buffer.from([0, 255, 10]),
  headers: [{ name: 'h', value: Buffer.from([0, 1]) }],
};

it('stores a dead letter once and byte for byte, however often it comes', async () => {
  const { pool, query } = await databaseWith(planWith());
  const batch = {
    source: source.name,
    partition: 2,
    letters: [letter, { ...letter, table: 'total' }],
  };
  await storeDeadLetters(pool, [batch, batch]);
  await storeDeadLetters(pool, [batch]);
  expect(
    await query(
      `SELECT table_name, record_value, record_key, record_headers, record_timestamp FROM anabranch.dead_letters
       WHERE source = 'orders' AND partition = 2 AND record_offset = 5 ORDER BY table_name`,
    ),
  ).toEqual(
    ['', 'total'].map((table_name) => ({
      table_name,
      record_value: letter.value,
      record_key: letter.key,
      record_headers: [{ name: 'h', value: 'AAE=' }],
      record_timestamp: new Date(1000),
    })),
  );
});

it.each([
  ['a NUL in the reason', { reason: 'not a number: \0' }],
  ['a NUL in a header', { headers: [{ name: '\0', value: null }] }],
  ['a timestamp of the wrong unit', { timestamp: 1_793_600_000_123_456_789n }],
  ['a negative timestamp', { timestamp: -1n }],
  ['nothing at all', { timestamp: null, key: null, value: null, headers: [] }],
  [
    'what CSV, arrays and JSON quote',
    { reason: `{"a,\\",'}\n`, headers: [{ name: '"\\\n', value: Buffer.alloc(0) }] },
  ],
] satisfies [string, Partial<DeadLetter>][])('stores a dead letter with %s', async (_, change) => {
  const { pool, query } = await databaseWith(planWith());
  await storeDeadLetters(pool, [
    { source: source.name, partition: 0, letters: [{ ...letter, ...change }] },
  ]);
  expect(await query('SELECT record_offset FROM anabranch.dead_letters')).toEqual([
    { record_offset: 5n },
  ]);
});

it('never moves a position back', async () => {
  const { pool } = await databaseWith(planWith());
  const at = (partition: number, next: bigint) => ({ topic: 'orders.results', partition, next });
  await writePositions(pool, [at(1, 10n), at(0, 5n)]);
  await writePositions(pool, [at(0, 4n), at(1, 11n)]);
  expect(await readPositions(pool, 'orders.results', [0, 1, 2])).toEqual(
    new Map([
      [0, 5n],
      [1, 11n],
    ]),
  );
  expect(await readPositions(pool, 'orders.dead', [0])).toEqual(new Map());
});

it('balances: records that came in are aggregated, filtered, dead or outstanding', async () => {
  const { pool, query, connect } = await databaseWith(planWith());
  const client = await connect();
  await pool.query(
    `INSERT INTO anabranch.ledger (source, partition, branch, from_offset, to_offset, definition, partials, stream_records, batch_records, dead_records, rule_records)
     VALUES ('orders', 0, 'stream', 0, 100, 'orders-1', 1, 60, 35, 5, '{35,60}'), ('orders', 0, 'batch', 0, 50, 'orders-1', 1, 30, 15, 5, '{15,30}')`,
  );
  const count = {
    table: 'total',
    partition: 0,
    branch: 'stream' as const,
    read: 60n,
    filtered: 20n,
    aggregated: 39n,
    dead: 1n,
  };
  await countRecords(client, source.name, [count]);
  const batch = {
    ...count,
    branch: 'batch' as const,
    read: 15n,
    filtered: 0n,
    aggregated: 10n,
    dead: 0n,
  };
  await countRecords(client, source.name, [batch, { ...batch, table: 'latest' }]);
  await countRecords(client, source.name, [{ ...batch, read: 5n, aggregated: 5n }]);
  expect(await query(`SELECT * FROM anabranch.balance WHERE table_name = 'total'`)).toEqual([
    {
      table_name: 'total',
      source: 'orders',
      records: '100',
      aggregated: '54',
      filtered: '20',
      dead: '6',
      lost: '0',
      outstanding: '20',
    },
  ]);
});

it('knows a conflict again', async () => {
  const { pool, query } = await databaseWith(planWith());
  const conflict = {
    source: source.name,
    partition: 0,
    branch: 'stream' as const,
    verdict: 'gap' as const,
    next: 5n,
    from: 7n,
    to: 9n,
    partial: null,
  };
  await recordConflict(pool, conflict);
  await recordConflict(pool, { ...conflict, next: 6n });
  await recordConflict(pool, { ...conflict, verdict: 'refused', partial: Buffer.from('1,\n') });
  expect(
    await query('SELECT verdict, next_offset, partial FROM anabranch.conflicts ORDER BY id'),
  ).toEqual([
    { verdict: 'gap', next_offset: 5n, partial: null },
    { verdict: 'refused', next_offset: 5n, partial: Buffer.from('1,\n') },
  ]);
});

const run: RunShare = {
  id: 'run-1',
  instance: 'one',
  trigger: 'every',
  startedAt: 1_000n,
  finishedAt: null,
  bytes: 10n,
  records: 2n,
  rows: 1n,
  load: 0.5,
  preprocess: 0.25,
  process: 0.125,
  store: 0,
};

it('adds up the shares of a run, whichever partials they come with', async () => {
  const { query, connect } = await databaseWith(planWith());
  const client = await connect();
  await recordRuns(client, source.name, [
    { run, partition: 1, from: 5n, to: 9n },
    { run, partition: 0, from: 0n, to: 3n },
    { run: { ...run, id: 'run-0' }, partition: 0, from: 3n, to: 4n },
  ]);
  await recordRuns(client, source.name, [
    { run: { ...run, finishedAt: 3_000n }, partition: 1, from: 9n, to: 20n },
  ]);
  await recordRuns(client, source.name, [{ run, partition: 2, from: 0n, to: 0n }]);
  expect(
    await query(
      `SELECT run, records, load_seconds, started_at, finished_at FROM anabranch.runs ORDER BY run`,
    ),
  ).toEqual([
    { run: 'run-0', records: 2n, load_seconds: 0.5, started_at: new Date(1000), finished_at: null },
    {
      run: 'run-1',
      records: 8n,
      load_seconds: 2,
      started_at: new Date(1000),
      finished_at: new Date(3000),
    },
  ]);
  expect(
    await query(
      `SELECT partition, from_offset, to_offset FROM anabranch.run_ranges WHERE run = 'run-1' ORDER BY 1`,
    ),
  ).toEqual([
    { partition: 0, from_offset: 0n, to_offset: 3n },
    { partition: 1, from_offset: 5n, to_offset: 20n },
    { partition: 2, from_offset: 0n, to_offset: 0n },
  ]);
});

it('takes shares of the same runs from two instances in any order without a deadlock', async () => {
  const { pool, query, connect } = await databaseWith(planWith());
  const [one, two] = [await connect(), await connect()];
  const share = (id: string, partition: number): CoveredRun => ({
    run: { ...run, id },
    partition,
    from: 0n,
    to: 1n,
  });
  await recordRuns(one, source.name, [share('a', 0), share('b', 0)]);
  await one.query('BEGIN');
  await recordRuns(one, source.name, [share('a', 0)]);
  const waiting = recordRuns(two, source.name, [share('b', 1), share('a', 1)]);
  await waitUntilBlocked(pool, one, waiting);
  await recordRuns(one, source.name, [share('b', 0)]);
  await one.query('COMMIT');
  await waiting;
  expect(await query('SELECT run, records FROM anabranch.runs ORDER BY run')).toEqual([
    { run: 'a', records: 6n },
    { run: 'b', records: 6n },
  ]);
});
