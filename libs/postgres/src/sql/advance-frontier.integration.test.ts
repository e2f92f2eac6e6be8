import type pg from 'pg';
import { expect, it } from 'vitest';
import { transaction } from '../transaction.ts';
import { databaseWith, planWith, type Row, source, waitUntilBlocked } from '../testing.ts';
import { type Advance, advanceFrontier } from './advance-frontier.ts';
import { claimFrontier } from './claim-frontier.ts';

const advance = (change: Partial<Advance>): Advance => ({
  partition: 0,
  branch: 'stream',
  fence: 1n,
  expected: null,
  origin: 0n,
  from: 0n,
  to: 10n,
  watermark: null,
  epoch: 0n,
  definition: source.hash,
  partials: 1,
  streamRecords: 0n,
  batchRecords: 0n,
  deadRecords: 0n,
  ruleRecords: [0n, 0n],
  ...change,
});

async function ledger(): Promise<{
  pool: pg.Pool;
  query: (text: string) => Promise<Row[]>;
  connect: () => Promise<pg.PoolClient>;
  apply: (...advances: Partial<Advance>[]) => Promise<void>;
}> {
  const { pool, query, connect } = await databaseWith(planWith());
  return {
    pool,
    query,
    connect,
    apply: (...advances) =>
      transaction(pool, (client) => advanceFrontier(client, source.name, advances.map(advance))),
  };
}

const segments = `SELECT branch, from_offset, to_offset, definition, partials, rule_records::text
  FROM anabranch.ledger WHERE partition = 0 ORDER BY branch, from_offset`;
const faults = 'SELECT * FROM anabranch.ledger_faults';

it('applies a range once: the frontier must be where the one who advances it left it', async () => {
  const { pool, query, apply } = await ledger();
  await claimFrontier(pool, source.name, [0], 'me');
  await apply({ to: 10n });
  const fenced = { code: 'FENCED' };
  await expect(apply({ to: 10n })).rejects.toMatchObject(fenced);
  await expect(apply({ expected: 9n, from: 9n, to: 12n })).rejects.toMatchObject(fenced);
  await expect(apply({ expected: 11n, from: 11n, to: 12n })).rejects.toMatchObject(fenced);
  await apply({ expected: 10n, from: 10n, to: 12n });
  expect(
    await query(
      `SELECT next_offset FROM anabranch.frontier WHERE partition = 0 AND branch = 'stream'`,
    ),
  ).toEqual([{ next_offset: 12n }]);
  expect(await query(faults)).toEqual([]);
});

it('advances all frontiers of a step or none', async () => {
  const { pool, query, apply } = await ledger();
  await claimFrontier(pool, source.name, [0, 1], 'me');
  await expect(
    apply({ to: 10n }, { partition: 1, expected: 5n, from: 5n, to: 6n }),
  ).rejects.toMatchObject({ code: 'FENCED' });
  expect(await query('SELECT FROM anabranch.frontier WHERE next_offset IS NOT NULL')).toEqual([]);
  expect(await query('SELECT FROM anabranch.ledger')).toEqual([]);
});

it('refuses a former owner once the partition is claimed, though the frontier has not moved', async () => {
  const { pool, apply } = await ledger();
  await claimFrontier(pool, source.name, [0], 'me');
  await apply({ to: 10n });
  const [batch, stream] = await claimFrontier(pool, source.name, [0], 'other');
  expect(stream).toEqual({ partition: 0, branch: 'stream', next: 10n, watermark: null, fence: 2n });
  expect(batch).toMatchObject({ branch: 'batch', next: null, fence: 2n });
  const next = { expected: 10n, from: 10n, to: 12n };
  await expect(apply({ ...next, fence: 1n })).rejects.toMatchObject({ code: 'FENCED' });
  await apply({ ...next, fence: 2n });
});

it('lets a claim wait for the step of the former owner that is under way, and tells where it ended', async () => {
  const { pool, connect } = await ledger();
  await claimFrontier(pool, source.name, [0], 'me');
  const former = await connect();
  await former.query('BEGIN');
  await advanceFrontier(former, source.name, [advance({ to: 10n, watermark: -1n })]);
  const claim = claimFrontier(pool, source.name, [0], 'other');
  await waitUntilBlocked(pool, former, claim);
  await former.query('COMMIT');
  expect(await claim).toContainEqual({
    partition: 0,
    branch: 'stream',
    next: 10n,
    watermark: -1n,
    fence: 2n,
  });
});

it('enters adjacent ranges in one row of the ledger and adds up their counts per rule', async () => {
  const { pool, query, apply } = await ledger();
  await claimFrontier(pool, source.name, [0], 'me');
  await apply(
    { origin: 5n, from: 5n, to: 10n, ruleRecords: [1n, 4n], streamRecords: 4n, batchRecords: 1n },
    { branch: 'batch', origin: 5n, from: 5n, to: 20n },
  );
  await apply({
    expected: 10n,
    from: 10n,
    to: 20n,
    partials: 3,
    ruleRecords: [7n, 2n],
    streamRecords: 2n,
    batchRecords: 7n,
    deadRecords: 1n,
  });
  expect(await query(segments)).toEqual([
    {
      branch: 'batch',
      from_offset: 5n,
      to_offset: 20n,
      definition: 'orders-1',
      partials: 1n,
      rule_records: '{0,0}',
    },
    {
      branch: 'stream',
      from_offset: 5n,
      to_offset: 20n,
      definition: 'orders-1',
      partials: 4n,
      rule_records: '{8,6}',
    },
  ]);
  expect(await query(faults)).toEqual([]);
});

it('begins a row of the ledger with each definition and each minute', async () => {
  const { pool, query, apply } = await ledger();
  await claimFrontier(pool, source.name, [0], 'me');
  await apply({ to: 10n });
  await apply({
    expected: 10n,
    from: 10n,
    to: 20n,
    definition: 'orders-2',
    ruleRecords: [1n, 2n, 3n],
  });
  await apply({
    expected: 20n,
    from: 20n,
    to: 30n,
    definition: 'orders-2',
    ruleRecords: [1n, 1n, 1n],
  });
  await pool.query(
    `UPDATE anabranch.frontier SET segment_started_at = segment_started_at - interval '61 seconds'`,
  );
  await apply({
    expected: 30n,
    from: 30n,
    to: 40n,
    definition: 'orders-2',
    ruleRecords: [0n, 0n, 9n],
  });
  expect(await query(segments)).toMatchObject([
    { from_offset: 0n, to_offset: 10n, definition: 'orders-1' },
    { from_offset: 10n, to_offset: 30n, definition: 'orders-2', rule_records: '{2,3,4}' },
    { from_offset: 30n, to_offset: 40n, definition: 'orders-2', rule_records: '{0,0,9}' },
  ]);
  expect(await query(faults)).toEqual([]);
});

it('takes a range without records: it moves the watermark, never back, and the ledger not at all', async () => {
  const { pool, query, apply } = await ledger();
  await claimFrontier(pool, source.name, [0], 'me');
  await apply({ origin: 5n, from: 5n, to: 5n, watermark: 2_000_000n });
  await apply({ expected: 5n, from: 5n, to: 5n, watermark: 1_000_000n });
  await apply({ expected: 5n, from: 5n, to: 5n, watermark: null });
  expect(await query('SELECT FROM anabranch.ledger')).toEqual([]);
  expect(await query(faults)).toEqual([]);
  const claimed = await claimFrontier(pool, source.name, [0], 'other');
  expect(claimed).toContainEqual(
    expect.objectContaining({ branch: 'stream', next: 5n, watermark: 2_000_000n }),
  );
  await apply({ fence: 2n, expected: 5n, from: 5n, to: 9n });
  expect(await query(segments)).toMatchObject([{ from_offset: 5n, to_offset: 9n }]);
  expect(await query(faults)).toEqual([]);
});

it.each([
  ['a gap', `UPDATE anabranch.ledger SET from_offset = 12 WHERE from_offset = 10`],
  ['an overlap', `UPDATE anabranch.ledger SET to_offset = 11 WHERE from_offset = 0`],
  ['a lost end', `DELETE FROM anabranch.ledger WHERE from_offset = 10`],
  ['a lost begin', `DELETE FROM anabranch.ledger WHERE from_offset = 0`],
  ['a lost ledger', `DELETE FROM anabranch.ledger`],
  [
    'a frontier that moved alone',
    `UPDATE anabranch.frontier SET next_offset = 21 WHERE next_offset = 20`,
  ],
])('shows %s in ledger_faults', async (_, damage) => {
  const { pool, query, apply } = await ledger();
  await claimFrontier(pool, source.name, [0], 'me');
  await apply({ to: 10n });
  await apply({ expected: 10n, from: 10n, to: 20n, definition: 'orders-2' });
  expect(await query(faults)).toEqual([]);
  await query(damage);
  expect(await query(faults)).not.toEqual([]);
});

it('tells for a range how many records each rule sent where, and they sum to its records', async () => {
  const { pool, query, apply } = await ledger();
  await claimFrontier(pool, source.name, [0], 'me');
  await apply({
    to: 10n,
    ruleRecords: [3n, 5n],
    streamRecords: 5n,
    batchRecords: 3n,
    deadRecords: 2n,
  });
  expect(
    await query(
      'SELECT from_offset, to_offset, rule, rule_number, records FROM anabranch.split ORDER BY rule_number NULLS LAST',
    ),
  ).toEqual([
    { from_offset: 0n, to_offset: 10n, rule: 'bulk', rule_number: 1n, records: 3n },
    { from_offset: 0n, to_offset: 10n, rule: 'default', rule_number: 2n, records: 5n },
    { from_offset: 0n, to_offset: 10n, rule: 'dead', rule_number: null, records: 2n },
  ]);
});
