import type { Partial } from '@anabranch/contract';
import {
  advanceFinalWatermark,
  claimFrontier,
  errorCode,
  setPartitions,
  transaction,
} from '@anabranch/postgres';
import {
  databaseWith,
  planWith,
  type Query,
  source,
  totalPlan,
  totalText,
  upsertPlan,
  upsertText,
  waitUntilBlocked,
  windowPlan,
  type WindowRow,
  windowText,
} from '@anabranch/postgres/testing';
import { StageClock } from '@anabranch/service';
import type pg from 'pg';
import { describe, expect, it } from 'vitest';
import { merge } from './merge.ts';
import { judgePartials, PartitionFrontiers } from './partition-frontiers.ts';
import { partialOf, tableOf } from './testing.ts';

const plan = planWith([windowPlan, upsertPlan, totalPlan]);
const sourcePlan = plan.sources.get(source.name)!;
const seconds = (at: number): bigint => BigInt(at) * 1_000_000n;

/** Two partitions whose frontiers have the given watermarks, in seconds. */
async function prepared(watermarks: {
  stream: [number, number];
  batch: [number, number];
}): Promise<{
  pool: pg.Pool;
  query: Query;
  connect: () => Promise<pg.PoolClient>;
  frontiers: PartitionFrontiers;
}> {
  const { pool, query, connect } = await databaseWith(plan);
  await setPartitions(pool, source.name, 2);
  const frontiers = new PartitionFrontiers();
  for (const branch of ['stream', 'batch'] as const) {
    for (const partition of [0, 1]) {
      await query(
        `UPDATE anabranch.frontier SET origin = 0, next_offset = 0, watermark = to_timestamp($3) WHERE partition = $1 AND branch = $2`,
        [partition, branch, watermarks[branch][partition]],
      );
    }
  }
  frontiers.claim(await claimFrontier(pool, source.name, [0, 1], 'me'));
  return { pool, query, connect, frontiers };
}

/** The next partial of a partition's stream branch, with rows of the window table. */
function late(
  partition: number,
  frontiers: PartitionFrontiers,
  rows: readonly WindowRow[],
  watermark: number | null = null,
): Partial {
  const from = frontiers.get(partition, 'stream').next ?? 0n;
  const to = from + BigInt(rows.length);
  return partialOf(
    { partition, from, to },
    {
      watermark: watermark === null ? null : seconds(watermark),
      tables: [
        tableOf('per_minute', to - from, windowText(rows)),
        tableOf('latest', to - from, ''),
        tableOf('total', to - from, ''),
      ],
    },
  );
}

async function apply(
  client: pg.PoolClient,
  frontiers: PartitionFrontiers,
  ...partials: Partial[]
): Promise<void> {
  const { shares, misfits } = judgePartials(partials, frontiers, sourcePlan);
  expect(misfits).toEqual([]);
  await merge(client, sourcePlan, shares, [], new StageClock('fusion'));
  frontiers.advance(shares);
}

const row = (total: number): WindowRow => ({
  window: 0,
  region: 'a',
  kind: null,
  total: String(total),
});
const rows = `SELECT total, status, revision FROM per_minute ORDER BY window_start, total`;
/** The first window ends after 60 seconds and has 10 more. */
const corrections = `SELECT row_key ->> 'region' AS region, (before ->> 'total')::int AS before, (after ->> 'total')::int AS after
  FROM anabranch.corrections ORDER BY id`;

describe('the status of a window row', () => {
  it('goes from provisional to final with the slowest watermark, and to corrected with a late record, before and after kept', async () => {
    const { pool, query, frontiers } = await prepared({ stream: [65, 100], batch: [100, 100] });
    const status = async (): Promise<unknown> => {
      await advanceFinalWatermark(pool, source.name);
      return query(rows);
    };
    const step = (...partials: Partial[]): Promise<void> =>
      transaction(pool, (client) => apply(client, frontiers, ...partials));
    await step(late(0, frontiers, [row(1)], 69));
    expect(await status()).toEqual([{ total: '1', status: 'provisional', revision: 1n }]);
    await step(late(0, frontiers, [], 70));
    expect(await status()).toEqual([{ total: '1', status: 'final', revision: 1n }]);
    await step(late(1, frontiers, [row(10), row(100)]));
    expect(await status()).toEqual([{ total: '111', status: 'corrected', revision: 2n }]);
    await step(late(1, frontiers, [{ ...row(7), region: null }]));
    expect(await status()).toEqual([
      { total: '7', status: 'corrected', revision: 1n },
      { total: '111', status: 'corrected', revision: 2n },
    ]);
    expect(await query(corrections)).toEqual([
      { region: 'a', before: 1, after: 111 },
      { region: null, before: null, after: 7 },
    ]);
    const [{ before, after } = {}] = await query(
      'SELECT before, after FROM anabranch.corrections ORDER BY id',
    );
    expect(before).toMatchObject({
      region: 'a',
      kind: null,
      total: 1,
      revision: 1,
      window_end: '1970-01-01T00:01:00+00:00',
    });
    expect(after).toMatchObject({ stream_records: 3, batch_records: 0, revision: 2 });
  });

  it('is not corrected by what arrives with the watermark that ends the window', async () => {
    const { pool, query, frontiers } = await prepared({ stream: [65, 100], batch: [100, 100] });
    await transaction(pool, (client) =>
      apply(client, frontiers, late(0, frontiers, [row(1)], 100)),
    );
    await advanceFinalWatermark(pool, source.name);
    expect(await query(rows)).toEqual([{ total: '1', status: 'final', revision: 1n }]);
    expect(await query(corrections)).toEqual([]);
  });

  it('is read behind the lock, when the final watermark rises in front of a late merge', async () => {
    const { pool, query, connect, frontiers } = await prepared({
      stream: [100, 100],
      batch: [100, 100],
    });
    await transaction(pool, (client) => apply(client, frontiers, late(0, frontiers, [row(1)])));
    const [raising, merging] = [await connect(), await connect()];
    await raising.query('BEGIN');
    await advanceFinalWatermark(raising, source.name);
    await merging.query('BEGIN');
    const merged = apply(merging, frontiers, late(1, frontiers, [row(10)]));
    await waitUntilBlocked(pool, raising, merged);
    expect(await query(rows)).toEqual([{ total: '1', status: 'provisional', revision: 1n }]);
    await raising.query('COMMIT');
    expect(await query(rows)).toEqual([{ total: '1', status: 'final', revision: 1n }]);
    await merged;
    await merging.query('COMMIT');
    expect(await query(rows)).toEqual([{ total: '11', status: 'corrected', revision: 2n }]);
    expect(await query(corrections)).toEqual([{ region: 'a', before: 1, after: 11 }]);
  });

  it('becomes final only after a merge that was not late when it began', async () => {
    // Nobody has raised the final watermark yet, and the partition that merges isn't the last one
    // whose watermark was missing: so only the lock keeps it down.
    const { pool, query, connect, frontiers } = await prepared({
      stream: [65, 100],
      batch: [100, 100],
    });
    const merging = await connect();
    await merging.query('BEGIN');
    await apply(merging, frontiers, late(1, frontiers, [row(10)]));
    await transaction(pool, (client) =>
      apply(client, frontiers, late(0, frontiers, [row(1)].slice(1), 100)),
    );
    const raised = advanceFinalWatermark(pool, source.name);
    await waitUntilBlocked(pool, merging, raised);
    expect(await query(rows)).toEqual([]);
    await merging.query('COMMIT');
    await raised;
    expect(await query(rows)).toEqual([{ total: '10', status: 'final', revision: 1n }]);
    expect(await query(corrections)).toEqual([]);
  });

  it('needs no lock where the merge holds the watermark back itself', async () => {
    const { pool, query, connect, frontiers } = await prepared({
      stream: [65, 100],
      batch: [100, 100],
    });
    const merging = await connect();
    await merging.query('BEGIN');
    await apply(merging, frontiers, late(0, frontiers, [row(1)], 100));
    await advanceFinalWatermark(pool, source.name);
    await merging.query('COMMIT');
    expect(await query(rows)).toEqual([{ total: '1', status: 'provisional', revision: 1n }]);
    await advanceFinalWatermark(pool, source.name);
    expect(await query(rows)).toEqual([{ total: '1', status: 'final', revision: 1n }]);
    expect(await query(corrections)).toEqual([]);
  });

  it('has a correction for each of two late merges at once, the second on top of the first', async () => {
    const { pool, query, connect, frontiers } = await prepared({
      stream: [100, 100],
      batch: [100, 100],
    });
    await advanceFinalWatermark(pool, source.name);
    const [one, two] = [await connect(), await connect()];
    await one.query('BEGIN');
    await two.query('BEGIN');
    await apply(one, frontiers, late(0, frontiers, [row(1)]));
    const second = apply(two, frontiers, late(1, frontiers, [row(10)]));
    await waitUntilBlocked(pool, one, second);
    await one.query('COMMIT');
    await second;
    await two.query('COMMIT');
    expect(await query(corrections)).toEqual([
      { region: 'a', before: null, after: 1 },
      { region: 'a', before: 1, after: 11 },
    ]);
  });
});

it('shows readers a step as a whole or not at all', async () => {
  const { query, connect, frontiers } = await prepared({ stream: [0, 0], batch: [0, 0] });
  const [reader, writer] = [await connect(), await connect()];
  const all = `SELECT (SELECT count(*)::int FROM per_minute) AS windows, (SELECT count(*)::int FROM total) AS totals,
    (SELECT count(*)::int FROM latest) AS latest, (SELECT sum(to_offset)::int FROM anabranch.ledger) AS applied`;
  const nothing = [{ windows: 0, totals: 0, latest: 0, applied: null }];
  await reader.query('BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY');
  expect((await reader.query(all)).rows).toEqual(nothing);
  await writer.query('BEGIN');
  await apply(
    writer,
    frontiers,
    partialOf(
      { from: 0n, to: 1n },
      {
        tables: [
          tableOf('per_minute', 1n, windowText([row(1)])),
          tableOf(
            'latest',
            1n,
            upsertText([{ partition: 0, offset: 0, at: 1, region: 'a', amount: 1 }]),
          ),
          tableOf('total', 1n, totalText([{ window: 0, count: 1 }])),
        ],
      },
    ),
  );
  expect(await query(all)).toEqual(nothing);
  await writer.query('COMMIT');
  expect((await reader.query(all)).rows).toEqual(nothing);
  await reader.query('COMMIT');
  expect((await reader.query(all)).rows).toEqual([
    { windows: 1, totals: 1, latest: 1, applied: 1 },
  ]);
});

it.each(['per_minute', 'latest'])(
  'locks the rows of %s in key order, so that merges of two instances never wait for each other',
  async (table) => {
    const { pool, query, connect, frontiers } = await prepared({ stream: [0, 0], batch: [0, 0] });
    const keys = Array.from({ length: 30 }, (_, key) => `k${key + 10}`);
    const next = (): Partial => {
      const from = frontiers.get(0, 'stream').next ?? 0n;
      const shuffled = keys.toSorted(() => Math.random() - 0.5);
      const windows = shuffled.map((region) => ({ window: 0, region, kind: 1, total: '1' }));
      const newest = shuffled.map((region, index) => ({
        partition: 0,
        offset: Number(from) + index,
        at: 1,
        region,
        amount: 1,
      }));
      return partialOf(
        { from, to: from + 30n },
        {
          tables: [
            tableOf('per_minute', 30n, windowText(windows)),
            tableOf('latest', 30n, upsertText(newest)),
            tableOf('total', 30n, ''),
          ],
        },
      );
    };
    await transaction(pool, (client) => apply(client, frontiers, next()));
    const [holding, merging] = [await connect(), await connect()];
    await holding.query('BEGIN');
    await holding.query(`SELECT FROM anabranch.state_${table} WHERE region = 'k25' FOR UPDATE`);
    await merging.query('BEGIN');
    const merged = apply(merging, frontiers, next());
    await waitUntilBlocked(pool, holding, merged);
    const untouched = await query(
      `SELECT region FROM anabranch.state_${table} ORDER BY region FOR UPDATE SKIP LOCKED`,
    );
    expect(untouched).toEqual(keys.filter((key) => key > 'k25').map((region) => ({ region })));
    await holding.query('COMMIT');
    await merged;
    await merging.query('COMMIT');
  },
);

it('lets two connections merge into the same rows of several tables, late or not, without a deadlock', async () => {
  const { pool, query, connect, frontiers } = await prepared({
    stream: [190, 190],
    batch: [190, 190],
  });
  const rounds = 40;
  const keys = Array.from({ length: 30 }, (_, key) => key);
  const shuffled = (): number[] => keys.toSorted(() => Math.random() - 0.5);
  const failures: (string | undefined)[] = [];
  const writer = async (partition: number): Promise<void> => {
    const client = await connect();
    for (let round = 0; round < rounds; round++) {
      const from = frontiers.get(partition, 'stream').next ?? 0n;
      const to = from + BigInt(keys.length);
      // Windows 0 and 1 are final, 2 to 4 are not.
      const window = (key: number): number =>
        (key % (round % 3 === 0 ? 5 : 3)) + (round % 3 === 1 ? 2 : 0);
      const partial = partialOf(
        { partition, from, to },
        {
          tables: [
            tableOf(
              'per_minute',
              to - from,
              windowText(
                shuffled().map((key) => ({
                  window: window(key),
                  region: key % 7 === 0 ? null : `k${key}`,
                  kind: key,
                  total: '1',
                })),
              ),
            ),
            tableOf(
              'latest',
              to - from,
              upsertText(
                shuffled().map((key) => ({
                  partition,
                  offset: Number(from) + key,
                  at: round,
                  region: `k${key}`,
                  amount: key,
                })),
              ),
            ),
            tableOf(
              'total',
              to - from,
              totalText(shuffled().map((key) => ({ window: window(key), count: 1 }))),
            ),
          ],
        },
      );
      await client.query('BEGIN');
      await apply(client, frontiers, partial).catch((error: unknown) => {
        failures.push(errorCode(error));
        throw error;
      });
      await client.query('COMMIT');
    }
  };
  await advanceFinalWatermark(pool, source.name);
  await Promise.allSettled([writer(0), writer(1)]);
  expect(failures).toEqual([]);
  expect(await query('SELECT sum(total)::int AS sum FROM per_minute')).toEqual([
    { sum: 2 * rounds * keys.length },
  ]);
});

it('keeps the counts of each definition apart, when ingest changed its split within a step', async () => {
  const { pool, query, frontiers } = await prepared({ stream: [0, 0], batch: [0, 0] });
  const part = (from: bigint, definition: string, rules: bigint[]): Partial =>
    partialOf(
      { from, to: from + 10n },
      {
        definition,
        split: { stream: 10n, batch: 0n, dead: 0n, rules },
        tables: ['per_minute', 'latest', 'total'].map((name) => tableOf(name, 10n, '')),
      },
    );
  await transaction(pool, (client) =>
    apply(
      client,
      frontiers,
      part(0n, 'orders-1', [4n, 6n]),
      part(10n, 'orders-1', [1n, 9n]),
      part(20n, 'orders-2', [1n, 2n, 7n]),
      part(30n, 'orders-1', [0n, 10n]),
    ),
  );
  expect(
    await query(
      'SELECT from_offset, to_offset, definition, rule_records::text FROM anabranch.ledger ORDER BY from_offset',
    ),
  ).toEqual([
    { from_offset: 0n, to_offset: 20n, definition: 'orders-1', rule_records: '{5,15}' },
    { from_offset: 20n, to_offset: 30n, definition: 'orders-2', rule_records: '{1,2,7}' },
    { from_offset: 30n, to_offset: 40n, definition: 'orders-1', rule_records: '{0,10}' },
  ]);
  expect(await query('SELECT * FROM anabranch.ledger_faults')).toEqual([]);
});

it('refuses a former owner before it has written anything, and what it holds changes nothing', async () => {
  const { pool, query, frontiers } = await prepared({ stream: [0, 0], batch: [0, 0] });
  const partial = late(0, frontiers, [row(1)]);
  const { shares } = judgePartials([partial], frontiers, sourcePlan);
  await claimFrontier(pool, source.name, [0], 'other');
  await expect(
    transaction(pool, (client) =>
      merge(
        client,
        sourcePlan,
        shares,
        [{ topic: 'orders.results', partition: 0, next: 9n }],
        new StageClock('fusion'),
      ),
    ),
  ).rejects.toMatchObject({ code: 'FENCED' });
  expect(await query(rows)).toEqual([]);
  expect(await query('SELECT * FROM anabranch.positions')).toEqual([]);
});
