import { expect, it } from 'vitest';
import { createTables } from '../tables.ts';
import { databaseWith, planWith, source, windowPlan } from '../testing.ts';
import { acceptedKind, type Loss, movePosition, recordLoss, settleGap } from './accept-loss.ts';
import { readPositions, writePositions } from './positions.ts';
import { recordConflict } from './record-conflict.ts';

const loss: Loss = {
  source: source.name,
  partition: 0,
  branch: 'both',
  kind: 'records',
  from: 100n,
  to: 120n,
  eventTimes: { from: null, to: null },
  reason: 'retention',
  by: null,
};

type Query = Awaited<ReturnType<typeof databaseWith>>['query'];

/** What one branch has applied of partition 0, in records of stream, batch and dead. */
async function applied(query: Query, branch: string, counts: [number, number, number]) {
  await query(
    `INSERT INTO anabranch.ledger (source, partition, branch, from_offset, to_offset, definition, partials,
       stream_records, batch_records, dead_records, rule_records)
     VALUES ('orders', 0, $1, 0, 200, 'orders-1', 1, $2, $3, $4, '{0,0}')`,
    [branch, ...counts],
  );
}

async function counted(query: Query, branch: string, aggregated: number) {
  await query(
    `INSERT INTO anabranch.table_counts (table_name, source, partition, branch, read_records, filtered_records, aggregated_records, dead_records)
     VALUES ('total', 'orders', 0, $1, $2, 0, $2, 0)`,
    [branch, aggregated],
  );
}

const balance = `SELECT records::int, aggregated::int, dead::int, lost::int, outstanding::int
  FROM anabranch.balance WHERE table_name = 'total'`;

it('balances with the offsets of a range of which no branch knows how many records it had', async () => {
  const { pool, query } = await databaseWith(planWith());
  await applied(query, 'stream', [60, 35, 5]);
  await applied(query, 'batch', [60, 35, 5]);
  await counted(query, 'stream', 60);
  await counted(query, 'batch', 35);
  await recordLoss(pool, loss);
  expect(await query(balance)).toEqual([
    { records: 120, aggregated: 95, dead: 5, lost: 20, outstanding: 0 },
  ]);
});

it('balances with the records that only the other branch knows of', async () => {
  const { pool, query } = await databaseWith(planWith());
  // The lost range had 7 records of the stream branch, 3 of the batch branch and a dead one.
  await applied(query, 'stream', [60, 35, 5]);
  await applied(query, 'batch', [67, 38, 6]);
  await counted(query, 'stream', 60);
  await counted(query, 'batch', 38);
  await recordLoss(pool, { ...loss, branch: 'stream', kind: 'partials' });
  expect(await query(balance)).toEqual([
    { records: 111, aggregated: 98, dead: 6, lost: 7, outstanding: 0 },
  ]);
});

it('balances where the branches lost ranges that overlap', async () => {
  const { pool, query } = await databaseWith(planWith());
  // Nobody knows of [110, 120); of [120, 130), which the batch branch alone lost, there were 4 batch records.
  await applied(query, 'stream', [60, 39, 5]);
  await applied(query, 'batch', [58, 35, 5]);
  await counted(query, 'stream', 60);
  await counted(query, 'batch', 35);
  await recordLoss(pool, { ...loss, branch: 'stream', kind: 'partials', from: 110n });
  await recordLoss(pool, { ...loss, branch: 'batch', kind: 'partials', from: 110n, to: 130n });
  expect(await query(balance)).toEqual([
    { records: 114, aggregated: 95, dead: 5, lost: 14, outstanding: 0 },
  ]);
});

it('never calls lost what the other branch has still to apply', async () => {
  const { pool, query } = await databaseWith(planWith());
  await applied(query, 'stream', [60, 35, 5]);
  await counted(query, 'stream', 60);
  // Dead letters are counted all the same, and another partition's loss is none of this one.
  await recordLoss(pool, { ...loss, branch: 'dead', kind: 'dead letters' });
  await recordLoss(pool, { ...loss, partition: 1, branch: 'batch', kind: 'blocks' });
  expect(await query(balance)).toEqual([
    { records: 100, aggregated: 60, dead: 5, lost: 0, outstanding: 35 },
  ]);
});

it('enters a loss once, with who accepted it', async () => {
  const { pool, query } = await databaseWith(planWith());
  await recordLoss(pool, loss);
  await recordLoss(pool, { ...loss, reason: 'again' });
  await recordLoss(pool, { ...loss, partition: 1, by: 'Ada' });
  expect(
    await query(
      'SELECT partition, reason, accepted_by = session_user AS by_role, accepted_by FROM anabranch.losses ORDER BY partition',
    ),
  ).toMatchObject([
    { partition: 0, reason: 'retention', by_role: true },
    { partition: 1, reason: 'retention', accepted_by: 'Ada' },
  ]);
  expect(await acceptedKind(pool, loss)).toBe('records');
  expect(await acceptedKind(pool, { ...loss, to: 121n })).toBeNull();
  await expect(recordLoss(pool, { ...loss, to: 100n })).rejects.toMatchObject({ code: '23514' });
});

it('calls windows incomplete that lost records may belong to, and no others', async () => {
  const { pool, query } = await databaseWith(planWith([windowPlan]));
  const minute = (number: number): bigint => BigInt(number) * 60_000_000n;
  await query(
    `UPDATE anabranch.sources SET final_watermark = 'epoch'::timestamptz + interval '1 hour'`,
  );
  for (let window = 0; window < 5; window++) {
    await query(
      `INSERT INTO anabranch.state_per_minute (_window_start, _revision, _corrected, _updated_at)
       SELECT 'epoch'::timestamptz + $1 * interval '1 minute', 1, $2, now()`,
      [window, window === 3],
    );
  }
  const statuses = `SELECT status FROM per_minute ORDER BY window_start`;
  const all = async (): Promise<string[]> =>
    (await query(statuses)).map(({ status }) => String(status));
  expect(await all()).toEqual(['final', 'final', 'final', 'corrected', 'final']);
  const eventTimes = { from: minute(2) + 1n, to: minute(3) };
  await recordLoss(pool, { ...loss, branch: 'dead', kind: 'dead letters', eventTimes });
  expect(await all()).toEqual(['final', 'final', 'final', 'corrected', 'final']);
  await recordLoss(pool, { ...loss, eventTimes });
  expect(await all()).toEqual(['final', 'final', 'incomplete', 'incomplete', 'final']);
  // An unknown begin: any window up to the end.
  const before = { from: null, to: minute(1) - 1n };
  await recordLoss(pool, { ...loss, partition: 1, eventTimes: before });
  expect(await all()).toEqual(['incomplete', 'final', 'incomplete', 'incomplete', 'final']);
});

it('settles the gap that is accepted and no other conflict, and moves a position either way', async () => {
  const { pool, query, connect } = await databaseWith(planWith());
  const client = await connect();
  const gap = {
    source: source.name,
    partition: 0,
    branch: 'stream' as const,
    verdict: 'gap' as const,
    next: 100n,
    from: 120n,
    to: 130n,
    partial: null,
  };
  await recordConflict(pool, gap);
  await recordConflict(pool, { ...gap, branch: 'batch' });
  await recordConflict(pool, { ...gap, verdict: 'overlap', from: 90n });
  await settleGap(client, { ...loss, branch: 'stream' });
  expect(await query('SELECT branch, verdict FROM anabranch.conflicts ORDER BY branch')).toEqual([
    { branch: 'batch', verdict: 'gap' },
    { branch: 'stream', verdict: 'overlap' },
  ]);
  await writePositions(pool, [{ topic: 'orders.results', partition: 0, next: 10n }]);
  await movePosition(client, 'orders.results', 0, 5n);
  await movePosition(client, 'orders.results', 1, 7n);
  expect(await readPositions(pool, 'orders.results', [0, 1])).toEqual(
    new Map([
      [0, 5n],
      [1, 7n],
    ]),
  );
});

it('gives a view from before there were losses the status that it lacks', async () => {
  const plan = planWith([windowPlan]);
  const { pool, query } = await databaseWith(plan);
  const [view] = await query(
    `SELECT string_agg(format('NULL::%s %s AS %I', format_type(atttypid, atttypmod),
       CASE WHEN attcollation = '"C"'::regcollation THEN 'COLLATE "C"' END, attname), ', ' ORDER BY attnum) AS columns
     FROM pg_attribute WHERE attrelid = 'per_minute'::regclass AND attnum > 0`,
  );
  await query(`CREATE OR REPLACE VIEW per_minute AS SELECT ${String(view?.['columns'])}`);
  await createTables(pool, plan, null);
  await query(
    `UPDATE anabranch.sources SET final_watermark = 'epoch'::timestamptz + interval '1 hour'`,
  );
  await query(
    `INSERT INTO anabranch.state_per_minute (_window_start, _revision, _corrected, _updated_at) VALUES ('epoch', 1, false, now())`,
  );
  await recordLoss(pool, loss);
  expect(await query('SELECT status FROM per_minute')).toEqual([{ status: 'incomplete' }]);
});
