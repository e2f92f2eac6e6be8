import type { Partial } from '@anabranch/contract';
import {
  appendText,
  databaseWith,
  minute,
  planWith,
  type Query,
  type Row,
  totalText,
  upsertText,
  windowText,
} from '@anabranch/postgres/testing';
import fc from 'fast-check';
import { expect, it } from 'vitest';
import { Instance, partialOf, results, tableOf, Topic } from './testing.ts';

/** One source record; it counts in all four tables. */
interface SourceRecord {
  readonly region: string | null;
  readonly amount: number;
  /** Seconds since 1970. */
  readonly at: number;
  readonly branch: 'stream' | 'batch';
}

interface Script {
  /** Per partition. */
  readonly records: SourceRecord[][];
  /** Lengths of the partials of each branch, in turn. */
  readonly lengths: { stream: number[]; batch: number[] };
  /** Which of the two branches' next partial comes next; what else happens in between. */
  readonly order: ('stream' | 'batch' | 'repeat' | 'reassign')[];
  /** How many messages of a partition a step gets, in turn. */
  readonly chunks: number[];
  /** What is done to one partial of a partition. */
  readonly damage: { partition: number; at: number; kind: 'none' | 'gap' | 'overlap' };
}

const record: fc.Arbitrary<SourceRecord> = fc.record({
  region: fc.constantFrom('a', 'b', '', 'é,"\n', null),
  amount: fc.integer({ min: -5, max: 99 }),
  at: fc.integer({ min: 0, max: 400 }),
  branch: fc.constantFrom('stream', 'batch'),
});

const lengths = fc.array(fc.integer({ min: 0, max: 7 }), { minLength: 1, maxLength: 5 });

const script: fc.Arbitrary<Script> = fc.record({
  records: fc.array(fc.array(record, { maxLength: 25 }), { minLength: 1, maxLength: 3 }),
  lengths: fc.record({ stream: lengths, batch: lengths }),
  order: fc.array(fc.constantFrom('stream', 'batch', 'repeat', 'reassign'), {
    minLength: 1,
    maxLength: 12,
  }),
  chunks: fc.array(fc.integer({ min: 0, max: 5 }), { minLength: 1, maxLength: 8 }),
  damage: fc.record({
    partition: fc.nat(2),
    at: fc.nat(8),
    kind: fc.constantFrom('none', 'none', 'gap', 'overlap'),
  }),
});

/** The partial that covers these records of one branch. */
function partialFor(
  records: readonly SourceRecord[],
  partition: number,
  branch: 'stream' | 'batch',
  from: number,
  to: number,
): Partial {
  const covered = records
    .slice(from, to)
    .map((one, index) => ({ ...one, partition, offset: from + index }));
  const own = covered.filter((one) => one.branch === branch);
  const counts = { stream: branch === 'stream' ? 1 : 0, batch: branch === 'batch' ? 1 : 0 };
  const size = BigInt(own.length);
  const table = (name: string, text: Buffer) => ({ ...tableOf(name, size, text), rows: size });
  const highest = records.slice(0, to).reduce((max, { at }) => Math.max(max, at), -Infinity);
  const streamed = BigInt(covered.filter((one) => one.branch === 'stream').length);
  return partialOf(
    { partition, branch, from: BigInt(from), to: BigInt(to) },
    {
      watermark: Number.isFinite(highest) ? BigInt(highest) * 1_000_000n - minute / 4n : null,
      split: {
        stream: streamed,
        batch: BigInt(covered.length) - streamed,
        dead: 0n,
        rules: [BigInt(covered.length) - streamed, streamed],
      },
      tables: [
        table(
          'per_minute',
          windowText(
            own.map(({ region, amount, at }) => ({
              window: Math.floor(at / 60),
              region,
              kind: amount % 2 === 0 ? null : 1,
              total: String(amount),
              low: amount,
              high: String(amount),
              ...counts,
            })),
          ),
        ),
        table(
          'total',
          totalText(own.map(({ at }) => ({ window: Math.floor(at / 60), count: 1, ...counts }))),
        ),
        table('latest', upsertText(own.map((one) => ({ ...one, ...counts })))),
        table('all_rows', appendText(own.map((one) => ({ ...one, note: one.region, ...counts })))),
      ],
    },
  );
}

/** Writes a partition's partials as the script says. */
function write(
  topic: Topic,
  { records, lengths: sizes, order, damage }: Script,
  partition: number,
) {
  const own = records[partition] ?? [];
  const next = { stream: 0, batch: 0 };
  const written: Partial[] = [];
  let number = 0;
  const put = (branch: 'stream' | 'batch'): void => {
    const size = sizes[branch][number % sizes[branch].length] ?? 1;
    const from = next[branch];
    const to = Math.min(own.length, from + size);
    const damaged = damage.partition === partition && damage.at === number ? damage.kind : 'none';
    number++;
    next[branch] = to;
    if (damaged === 'gap' && to > from) {
      return;
    }
    // An overlap takes records again that an earlier partial had.
    const begin = damaged === 'overlap' && to > from ? Math.max(0, from - 1) : from;
    const partial = partialFor(own, partition, branch, begin, to);
    topic.write(partial);
    written.push(partial);
  };
  for (let turn = 0; next.stream < own.length || next.batch < own.length; turn++) {
    const what = order[turn % order.length] ?? 'stream';
    if (what === 'repeat') {
      topic.write(...written.slice(-3));
    } else {
      put(what === 'batch' ? 'batch' : 'stream');
      put(what === 'batch' ? 'stream' : 'batch');
    }
    // Lengths may all be 0.
    number += turn > 200 ? 1 : 0;
    if (turn > 200) {
      next.stream = next.batch = own.length;
    }
  }
}

/** What has to be in Postgres: the records by the merge law, one message after another. */
function expectedOf(logs: readonly (readonly Partial[])[], records: Script['records']) {
  const merged: (SourceRecord & { partition: number; offset: number })[] = [];
  const conflicts: { partition: number; verdict: string; from_offset: bigint }[] = [];
  const next = new Map<string, bigint>();
  logs.forEach((log, partition) => {
    for (const { branch, from, to } of log) {
      const at = next.get(`${partition}/${branch}`) ?? 0n;
      if (to <= at && from !== at) {
        continue;
      }
      if (from !== at) {
        conflicts.push({ partition, verdict: from > at ? 'gap' : 'overlap', from_offset: from });
        break;
      }
      next.set(`${partition}/${branch}`, to);
      for (let offset = Number(from); offset < Number(to); offset++) {
        const one = records[partition]?.[offset];
        if (one?.branch === branch) {
          merged.push({ ...one, partition, offset });
        }
      }
    }
  });
  return { merged, conflicts, next };
}

type Merged = ReturnType<typeof expectedOf>['merged'];

/** Sorts rows by what they say, and says it without bigints. */
const plain = (rows: readonly Row[]): string[] =>
  rows
    .map((row) =>
      JSON.stringify(row, (_, value: unknown) =>
        typeof value === 'bigint' ? Number(value) : value,
      ),
    )
    .toSorted();

function grouped(merged: Merged, key: (one: Merged[number]) => unknown): Merged[] {
  const groups = new Map<string, Merged>();
  for (const one of merged) {
    const name = JSON.stringify(key(one));
    groups.set(name, [...(groups.get(name) ?? []), one]);
  }
  return [...groups.values()];
}

async function expectTables(query: Query, merged: Merged): Promise<void> {
  const counts = (group: Merged) => ({
    stream_records: group.filter(({ branch }) => branch === 'stream').length,
    batch_records: group.filter(({ branch }) => branch === 'batch').length,
  });
  const kind = ({ amount }: Merged[number]): number | null => (amount % 2 === 0 ? null : 1);
  const minuteOf = ({ at }: Merged[number]): number => Math.floor(at / 60);
  expect(
    plain(
      await query(
        `SELECT extract(epoch FROM window_start)::int / 60 AS minute, region, kind, total::int, low, high, stream_records, batch_records FROM per_minute`,
      ),
    ),
  ).toEqual(
    plain(
      grouped(merged, (one) => [minuteOf(one), one.region, kind(one)]).map((group) => {
        const [first] = group as [Merged[number]];
        const amounts = group.map(({ amount }) => amount);
        return {
          minute: minuteOf(first),
          region: first.region,
          kind: kind(first),
          total: amounts.reduce((a, b) => a + b, 0),
          low: Math.min(...amounts),
          high: amounts.map(String).toSorted().at(-1),
          ...counts(group),
        };
      }),
    ),
  );
  expect(
    plain(
      await query(
        `SELECT extract(epoch FROM window_start)::int / 60 AS minute, count, stream_records, batch_records FROM total`,
      ),
    ),
  ).toEqual(
    plain(
      grouped(merged, minuteOf).map((group) => ({
        minute: minuteOf(group[0]!),
        count: group.length,
        ...counts(group),
      })),
    ),
  );
  expect(
    plain(await query(`SELECT region, amount, stream_records, batch_records FROM latest`)),
  ).toEqual(
    plain(
      grouped(merged, ({ region }) => region).map((group) => {
        const last = group.toSorted(
          (a, b) => a.at - b.at || a.partition - b.partition || a.offset - b.offset,
        );
        return { region: last[0]!.region, amount: last.at(-1)!.amount, ...counts(group) };
      }),
    ),
  );
  expect(
    plain(
      await query(
        `SELECT source_partition AS partition, source_offset AS offset, note FROM all_rows`,
      ),
    ),
  ).toEqual(
    plain(merged.map(({ partition, offset, region }) => ({ partition, offset, note: region }))),
  );
}

/** What a reader who looks after each step must never see. */
class Reader {
  readonly #query: Query;
  #seen = new Map<string, { row: string; status: string }>();
  #finalBefore = -Infinity;

  constructor(query: Query) {
    this.#query = query;
  }

  async look(): Promise<void> {
    const rows = await this.#query(
      `SELECT extract(epoch FROM window_end)::int + 10 AS complete, status,
         (to_jsonb(p) - 'status' - 'updated_at')::text AS row, json_build_array(window_start, region, kind)::text AS key
       FROM per_minute p`,
    );
    const [source] = await this.#query(
      `SELECT extract(epoch FROM final_watermark)::float8 AS final FROM anabranch.sources`,
    );
    for (const { complete, status, row, key } of rows) {
      const seen = this.#seen.get(String(key));
      const wasFinal = Number(complete) <= this.#finalBefore;
      if (wasFinal && seen?.row !== row) {
        expect(status, `a final row that changed: ${String(row)}`).toBe('corrected');
        const [correction] = await this.#query(
          `SELECT before::text, after::text FROM anabranch.corrections
           WHERE table_name = 'per_minute' AND json_build_array(row_key -> 'window_start', row_key -> 'region', row_key -> 'kind')::jsonb = $1::jsonb
           ORDER BY id DESC LIMIT 1`,
          [key],
        );
        expect(correction?.['after']).toBe(row);
      }
      if (seen?.status === 'final' && seen.row === row) {
        expect(status).toBe('final');
      }
      if (seen?.status === 'corrected') {
        expect(status).toBe('corrected');
      }
    }
    this.#seen = new Map(
      rows.map(({ key, row, status }) => [
        String(key),
        { row: String(row), status: String(status) },
      ]),
    );
    this.#finalBefore = source?.['final'] === null ? -Infinity : Number(source?.['final']);
  }

  /** Each correction of a row begins with what the one before it left, and the first with what was final. */
  async expectChains(): Promise<void> {
    expect(
      await this.#query(`SELECT * FROM (
          SELECT before, lag(after) OVER (PARTITION BY table_name, row_key ORDER BY id) AS previous FROM anabranch.corrections
        ) c WHERE previous IS NOT NULL AND previous IS DISTINCT FROM before`),
    ).toEqual([]);
  }
}

it('merges any interleaving of partials into what a plain recomputation says: each record once, a gap or overlap halts its partition alone, the ledger tiles, final rows change only as corrected', async () => {
  const plan = planWith();
  const { pool, query } = await databaseWith(plan);
  const { rows } = await pool.query<{ tables: string }>(
    `SELECT string_agg(format('anabranch.%I', relname), ', ') AS tables FROM pg_class
     WHERE relnamespace = 'anabranch'::regnamespace AND relkind = 'r' AND relname NOT IN ('migrations', 'sources', 'tables', 'split_rules')`,
  );
  let halts = 0;
  let corrections = 0;
  await fc.assert(
    fc.asyncProperty(script, async (one) => {
      await query(
        `TRUNCATE ${rows[0]?.tables}; UPDATE anabranch.sources SET partitions = 0, final_watermark = NULL`,
      );
      const topic = new Topic(results);
      const logs = one.records.map((_, partition) => {
        write(topic, one, partition);
        return topic.partials(partition);
      });
      const partitions = one.records.map((_, partition) => partition);
      const reader = new Reader(query);
      let instance = new Instance(pool, plan, [topic], partitions);
      await instance.assign();
      let taken = 0;
      const total = Math.max(...partitions.map((partition) => topic.messages(partition).length));
      for (let step = 0; step < 40 && taken < 2 * total; step++) {
        const chunk = one.chunks[step % one.chunks.length] ?? 1;
        taken += chunk;
        await instance.step((partition) => chunk + (partition % 2));
        await reader.look();
        if (one.order[step % one.order.length] === 'reassign') {
          instance = new Instance(pool, plan, [topic], partitions);
          await instance.assign();
        }
      }
      await instance.drain();
      await reader.look();

      const { merged, conflicts, next } = expectedOf(logs, one.records);
      await expectTables(query, merged);
      expect(
        await query(
          `SELECT partition, verdict, from_offset FROM anabranch.conflicts ORDER BY partition`,
        ),
      ).toEqual(conflicts);
      expect([...instance.halted.keys()].toSorted()).toEqual(
        conflicts.map(({ partition }) => `${results}/${partition}`),
      );
      expect(await query('SELECT * FROM anabranch.ledger_faults')).toEqual([]);
      for (const { partition, branch, next_offset } of await query(
        'SELECT * FROM anabranch.frontier',
      )) {
        expect(next_offset).toBe(next.get(`${partition}/${branch}`) ?? null);
      }
      expect(
        await query('SELECT FROM anabranch.balance WHERE aggregated <> $1', [merged.length]),
      ).toEqual([]);
      await reader.expectChains();
      halts += conflicts.length;
      corrections += Number(
        (await query('SELECT count(*) AS rows FROM anabranch.corrections'))[0]?.['rows'],
      );
    }),
    { numRuns: 40 },
  );
  // What the scripts were made for did occur.
  expect(halts).toBeGreaterThan(0);
  expect(corrections).toBeGreaterThan(0);
});
