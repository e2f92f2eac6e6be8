import { encodeDeadLetters, encodeTelemetry, type Partial } from '@anabranch/contract';
import {
  appendPlan,
  appendText,
  databaseWith,
  planWith,
  poolOn,
  type Query,
  source,
  totalPlan,
  totalText,
} from '@anabranch/postgres/testing';
import type pg from 'pg';
import { describe, expect, it } from 'vitest';
import { dead, Instance, partialOf, results, tableOf, Topic } from './testing.ts';

const plan = planWith([totalPlan, appendPlan]);

/** A record each of the offsets in the range, one a window of `total`. */
function counted(range: {
  partition?: number;
  branch?: 'stream' | 'batch';
  from: bigint;
  to: bigint;
}): Partial {
  const offsets = Array.from(
    { length: Number(range.to - range.from) },
    (_, index) => Number(range.from) + index,
  );
  const size = BigInt(offsets.length);
  return partialOf(range, {
    tables: [
      {
        ...tableOf('total', size, totalText(offsets.map((window) => ({ window, count: 1 })))),
        rows: size,
      },
      {
        ...tableOf(
          'all_rows',
          size,
          appendText(
            offsets.map((offset) => ({
              partition: range.partition ?? 0,
              offset,
              at: offset,
              note: 'x',
            })),
          ),
        ),
        rows: size,
      },
    ],
  });
}

async function setUp(size = 1): Promise<{
  pool: pg.Pool;
  url: string;
  query: Query;
  topic: Topic;
  letters: Topic;
  partitions: number[];
  instance: (on?: pg.Pool) => Promise<Instance>;
  applied: () => Promise<unknown>;
}> {
  const { pool, url, query } = await databaseWith(plan);
  const [topic, letters] = [new Topic(results), new Topic(dead)];
  const partitions = Array.from({ length: size }, (_, partition) => partition);
  return {
    pool,
    url,
    query,
    topic,
    letters,
    partitions,
    instance: async (on = pool) => {
      const instance = new Instance(on, plan, [topic, letters], partitions);
      await instance.assign();
      return instance;
    },
    /** Of every partition: rows, and those that are there more than once. */
    applied: () =>
      query(`SELECT source_partition AS partition, count(*)::int AS rows, count(DISTINCT source_offset)::int AS records,
        max(source_offset)::int AS last FROM all_rows GROUP BY 1 ORDER BY 1`),
  };
}

function deadLetter(partition: number): Buffer {
  const letter = {
    offset: 9n,
    timestamp: null,
    table: null,
    code: 'malformed',
    reason: '',
    key: null,
    value: null,
    headers: [],
  };
  return Buffer.concat(encodeDeadLetters({ source: source.name, partition, letters: [letter] }));
}

const halts = ({ halted }: Instance): string[] => [...halted.keys()];

it('goes on where its last transaction ended, wherever the group says', async () => {
  const { topic, instance, applied, query } = await setUp();
  topic.write(counted({ from: 0n, to: 3n }), counted({ from: 3n, to: 5n }));
  await (await instance()).drain(() => 1);
  topic.write(counted({ from: 5n, to: 6n }));
  const next = await instance();
  expect(next.position(results, 0)).toBe(2n);
  await next.drain();
  expect(await applied()).toEqual([{ partition: 0, rows: 6, records: 6, last: 5 }]);
  // An empty database wants everything from the begin, though the group has committed long since.
  await query(
    'TRUNCATE anabranch.frontier, anabranch.positions, anabranch.ledger, anabranch.state_all_rows, anabranch.state_total',
  );
  const empty = await instance();
  expect(empty.position(results, 0)).toBe(0n);
  await empty.drain();
  expect(await applied()).toEqual([{ partition: 0, rows: 6, records: 6, last: 5 }]);
});

it('puts a partial of many parts together, also when a new instance takes over between them', async () => {
  const { topic, instance, applied, query } = await setUp();
  const note = 'x'.repeat(900_000);
  const big = partialOf(
    { from: 0n, to: 3n },
    {
      tables: [
        tableOf('total', 3n, ''),
        tableOf(
          'all_rows',
          3n,
          appendText([0, 1, 2].map((offset) => ({ partition: 0, offset, at: 1, note }))),
        ),
      ],
    },
  );
  topic.write(big, counted({ branch: 'batch', from: 0n, to: 3n }));
  const parts = topic.messages(0);
  // The other branch's partial comes in between.
  parts.splice(1, 0, parts.pop()!);
  expect(parts.length).toBeGreaterThan(3);
  const first = await instance();
  await first.step(() => 3);
  expect(await query(`SELECT next_offset FROM anabranch.frontier ORDER BY branch`)).toEqual([
    { next_offset: 3n },
    { next_offset: null },
  ]);
  const second = await instance();
  expect(second.position(results, 0)).toBe(0n);
  await second.drain(() => 1);
  expect(halts(second)).toEqual([]);
  expect(await applied()).toEqual([{ partition: 0, rows: 6, records: 3, last: 2 }]);
});

describe('what does not fit', () => {
  it('halts its own partition only, applies what is in front of it, and is recorded once however often it is read', async () => {
    const { topic, instance, applied, query } = await setUp(2);
    topic.write(
      counted({ from: 0n, to: 2n }),
      counted({ from: 3n, to: 4n }),
      counted({ branch: 'batch', from: 0n, to: 4n }),
      counted({ partition: 1, from: 0n, to: 4n }),
    );
    for (const _time of [1, 2]) {
      const one = await instance();
      await one.drain();
      expect(halts(one)).toEqual([`${results}/0`]);
      expect(one.halted.get(`${results}/0`)).toContain('[2, 3) are missing on the stream branch');
    }
    expect(await applied()).toEqual([
      { partition: 0, rows: 2, records: 2, last: 1 },
      { partition: 1, rows: 4, records: 4, last: 3 },
    ]);
    expect(
      await query(
        'SELECT partition, branch, verdict, next_offset, from_offset, to_offset, partial FROM anabranch.conflicts',
      ),
    ).toEqual([
      {
        partition: 0,
        branch: 'stream',
        verdict: 'gap',
        next_offset: 2n,
        from_offset: 3n,
        to_offset: 4n,
        partial: null,
      },
    ]);
  });

  it('keeps the rows of a partial that overlaps, for a repair by hand', async () => {
    const { topic, instance, query } = await setUp();
    topic.write(counted({ from: 0n, to: 2n }), counted({ from: 1n, to: 3n }));
    const one = await instance();
    await one.drain();
    expect(one.halted.get(`${results}/0`)).toContain('overlaps');
    const [conflict] = await query(
      `SELECT verdict, convert_from(partial, 'UTF8') AS partial FROM anabranch.conflicts`,
    );
    expect(conflict).toMatchObject({
      verdict: 'overlap',
      partial: expect.stringContaining('1970-01-01 00:02') as string,
    });
  });

  it.each([
    ['text for a number', '0,x,1970-01-01 00:00:00+00,n,1,0\n', 'invalid input syntax'],
    [
      'a number out of range',
      '0,99999999999999999999,1970-01-01 00:00:00+00,n,1,0\n',
      'out of range',
    ],
    ['a missing column', '0,1\n', 'missing data'],
    [
      'bytes that are no UTF-8',
      Buffer.from([0x30, 0x2c, 0x31, 0x2c, 0xff, 0x0a]),
      'invalid byte sequence',
    ],
  ])(
    'halts the partition whose data Postgres refuses, in front of it: %s',
    async (_, text, message) => {
      const { topic, letters, instance, applied, query } = await setUp(3);
      const refused = partialOf(
        { partition: 1, from: 2n, to: 3n },
        {
          tables: [
            tableOf('total', 1n, totalText([{ window: 0, count: 1 }])),
            tableOf('all_rows', 1n, text),
          ],
        },
      );
      topic.write(
        counted({ partition: 0, from: 0n, to: 4n }),
        counted({ partition: 1, from: 0n, to: 2n }),
        refused,
        counted({ partition: 1, from: 3n, to: 4n }),
        counted({ partition: 2, from: 0n, to: 4n }),
      );
      letters.messages(1).push(deadLetter(1));
      for (const _time of [1, 2]) {
        const one = await instance();
        await one.drain();
        expect(halts(one)).toEqual([`${results}/1`]);
        expect(one.halted.get(`${results}/1`)).toContain(message);
      }
      expect(await applied()).toEqual([
        { partition: 0, rows: 4, records: 4, last: 3 },
        { partition: 1, rows: 2, records: 2, last: 1 },
        { partition: 2, rows: 4, records: 4, last: 3 },
      ]);
      expect(
        await query('SELECT partition, verdict, from_offset FROM anabranch.conflicts'),
      ).toEqual([{ partition: 1, verdict: 'refused', from_offset: 2n }]);
      expect(await query('SELECT record_offset FROM anabranch.dead_letters')).toEqual([
        { record_offset: 9n },
      ]);
      expect(await query('SELECT * FROM anabranch.ledger_faults')).toEqual([]);
    },
  );

  it('halts where the processor has another definition of a table, and says what to do', async () => {
    const { topic, instance, query } = await setUp();
    const [total, rows] = counted({ from: 0n, to: 2n }).tables;
    topic.write(
      partialOf({ from: 0n, to: 2n }, { tables: [{ ...total!, hash: 'total-2' }, rows!] }),
    );
    const one = await instance();
    await one.drain();
    expect(one.halted.get(`${results}/0`)).toBe(
      'The stream-processor and fusion have different definitions of table total: deploy the same definition to all services.',
    );
    expect(await query('SELECT verdict FROM anabranch.conflicts')).toEqual([
      { verdict: 'refused' },
    ]);
  });

  it('halts at a message that is damaged, foreign, or of another partition, and stores nothing of it', async () => {
    const { topic, letters, instance, applied, query } = await setUp(4);
    topic.write(counted({ partition: 0, from: 0n, to: 2n }));
    const [good] = topic.messages(0);
    topic
      .messages(0)
      .push(Buffer.concat([good!.subarray(0, -1), Buffer.from([good!.at(-1)! ^ 1])]));
    topic.messages(1).push(Buffer.from('somebody else'));
    topic.messages(2).push(good!);
    topic.write(counted({ partition: 3, from: 0n, to: 2n }));
    letters.messages(3).push(Buffer.from('somebody else'));
    const one = await instance();
    await one.drain();
    expect(halts(one).toSorted()).toEqual([
      `${dead}/3`,
      `${results}/0`,
      `${results}/1`,
      `${results}/2`,
    ]);
    expect(one.halted.get(`${results}/2`)).toContain('holds results of orders/0');
    expect(await applied()).toEqual([
      { partition: 0, rows: 2, records: 2, last: 1 },
      { partition: 3, rows: 2, records: 2, last: 1 },
    ]);
    expect(await query('SELECT topic, partition, next_offset FROM anabranch.positions')).toEqual([
      { topic: results, partition: 3, next_offset: 1n },
    ]);
  });
});

it('asks to join the group anew when another instance has its partitions, and has changed nothing', async () => {
  const { topic, instance, applied } = await setUp();
  topic.write(counted({ from: 0n, to: 2n }));
  const zombie = await instance();
  const owner = await instance();
  await expect(zombie.step()).rejects.toMatchObject({ rejoin: true, cause: { code: 'FENCED' } });
  expect(await applied()).toEqual([]);
  await owner.drain();
  expect(await applied()).toEqual([{ partition: 0, rows: 2, records: 2, last: 1 }]);
});

/**
 * Kills the connection of a transaction in front of its `at`th statement, or behind it, when Postgres
 * has done it and nobody hears of it; once armed, and once.
 */
function breaking(
  pool: pg.Pool,
  admin: pg.Pool,
  at: number,
  how: 'before' | 'after',
): { arm: () => void; reached: () => boolean } {
  let statement = -Infinity;
  pool.on('connect', (client) => {
    const query = client.query.bind(client) as (...args: unknown[]) => unknown;
    const kill = (): Promise<unknown> =>
      admin.query('SELECT pg_terminate_backend($1)', [
        (client as unknown as { processID: number }).processID,
      ]);
    client.query = ((...args: unknown[]) => {
      // With a callback: the pool's own, outside of transactions.
      if (typeof args.at(-1) === 'function' || ++statement !== at) {
        return query(...args);
      }
      if (typeof args[0] === 'object' && args[0] !== null && 'submit' in args[0]) {
        // A COPY is a stream: the connection breaks while it runs.
        void kill();
        return query(...args);
      }
      return how === 'before'
        ? kill().then(() => query(...args))
        : (query(...args) as Promise<unknown>).then(async () => {
            await kill();
            throw new Error('Connection terminated unexpectedly');
          });
    }) as pg.PoolClient['query'];
  });
  return {
    arm: () => {
      statement = 0;
    },
    reached: () => statement >= at,
  };
}

describe('a connection that is lost', () => {
  // BEGIN, frontiers, positions, two COPYs, late?, merge, counts, dead letters, COMMIT
  const statements = 10;

  it.each(['before', 'after'] as const)(
    '%s any statement of a step applies nothing twice and leaves nothing out',
    async (how) => {
      const { url, pool: admin, topic, letters, applied, query } = await setUp();
      for (let at = 1; at <= statements; at++) {
        const partition = at;
        topic.write(
          counted({ partition, from: 0n, to: 2n }),
          counted({ partition, branch: 'batch', from: 0n, to: 3n }),
          counted({ partition, from: 2n, to: 4n }),
        );
        letters.messages(partition).push(deadLetter(partition));
        const pool = poolOn(url, plan, 1);
        const { arm, reached } = breaking(pool, admin, at, how);
        const instance = new Instance(pool, plan, [topic, letters], [partition]);
        await instance.assign();
        arm();
        await instance.drain(() => 2);
        await pool.end();
        expect(reached()).toBe(true);
        expect(halts(instance)).toEqual([]);
      }
      const every = Array.from({ length: statements }, (_, index) => index + 1);
      expect(await applied()).toEqual(
        every.map((partition) => ({ partition, rows: 7, records: 4, last: 3 })),
      );
      expect(await query('SELECT sum(count)::int AS count FROM total')).toEqual([
        { count: 7 * statements },
      ]);
      expect(await query('SELECT * FROM anabranch.ledger_faults')).toEqual([]);
      expect(await query('SELECT * FROM anabranch.conflicts')).toEqual([]);
      expect(
        await query(
          'SELECT partition, sum(aggregated_records)::int AS records FROM anabranch.table_counts GROUP BY 1 ORDER BY 1',
        ),
      ).toEqual(every.map((partition) => ({ partition, records: 14 })));
      expect(
        await query('SELECT partition FROM anabranch.dead_letters ORDER BY partition'),
      ).toEqual(every.map((partition) => ({ partition })));
    },
  );
});

it('says that it has to wait when Postgres is away at the assignment, and goes on when it is back', async () => {
  const { url, topic, applied, partitions } = await setUp();
  const away = new URL(url);
  away.port = '1';
  const gone = new Instance(poolOn(away.href), plan, [topic], partitions);
  await expect(gone.assign()).rejects.toMatchObject({ retriable: true });
  expect(await applied()).toEqual([]);
});

it('raises the final watermark and stores the costs of steps and runs, also without work', async () => {
  const { pool, topic, partitions, query } = await setUp();
  const cost = {
    service: 'stream-processor',
    instance: 'one',
    source: source.name,
    branch: 'stream' as const,
    finishedAt: 61_000n,
    steps: 1n,
    bytes: 10n,
    records: 1n,
    rows: 1n,
    load: 0.5,
    preprocess: 0,
    process: 0,
    store: 0,
    cpu: 0.25,
    predicted: { load: 0, preprocess: 0, process: 0, store: 0 },
    predictedSteps: 0n,
    errors: [],
    tables: [],
  };
  const run = {
    id: 'run-1',
    instance: 'one',
    trigger: 'every',
    startedAt: 1n,
    finishedAt: 2n,
    bytes: 1n,
    records: 1n,
    rows: 1n,
    load: 1,
    preprocess: 1,
    process: 1,
    store: 1,
  };
  const instance = new Instance(pool, plan, [topic], partitions);
  await instance.assign();
  const at = { watermark: 5_000_000n };
  topic.write(
    { ...counted({ from: 0n, to: 2n }), ...at },
    { ...counted({ branch: 'batch', from: 0n, to: 2n }), ...at, run },
  );
  topic.messages(0).push(encodeTelemetry({ costs: [cost], models: [], decisions: [] }));
  await instance.step();
  await instance.step();
  expect(await query('SELECT final_watermark FROM anabranch.sources')).toEqual([
    { final_watermark: new Date(5_000) },
  ]);
  expect(
    await query(
      'SELECT service, sum(steps)::int AS steps FROM anabranch.stage_costs GROUP BY 1 ORDER BY 1',
    ),
  ).toEqual([
    { service: 'fusion', steps: 1 },
    { service: 'stream-processor', steps: 1 },
  ]);
  expect(await query('SELECT run, records FROM anabranch.runs')).toEqual([
    { run: 'run-1', records: 1n },
  ]);
  expect(await query('SELECT partition, from_offset, to_offset FROM anabranch.run_ranges')).toEqual(
    [{ partition: 0, from_offset: 0n, to_offset: 2n }],
  );
});
