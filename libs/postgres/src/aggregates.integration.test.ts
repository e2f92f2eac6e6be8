import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import os from 'node:os';
import path from 'node:path';
import { loadPlan, Processor, type TextBlock } from '@anabranch/compute';
import fc from 'fast-check';
import pg from 'pg';
import { afterAll, beforeAll, expect, it, onTestFinished } from 'vitest';
import { copyRows } from './sql/copy-rows.ts';
import { mergeWindow } from './sql/merge-window.ts';
import { stagingTable, stateTable, type WindowPlan } from './tables.ts';
import { databaseWith, type Query, type Row } from './testing.ts';
import { transaction } from './transaction.ts';

/**
 * The merge law of all aggregates, from the records on DuckDB to the views in the real Postgres: which
 * branch, partition, partial and transaction has a record, and in which order they are merged, changes
 * neither states nor results, and the results are those that plain SQL has over all records.
 */
const schema = {
  type: 'record',
  name: 'Order',
  fields: [
    { name: 'region', type: ['null', 'string'] },
    { name: 'cents', type: ['null', decimal(12, 2)] },
    { name: 'exact', type: ['null', decimal(18, 4)] },
    { name: 'small', type: ['null', 'int'] },
    { name: 'large', type: ['null', 'long'] },
    { name: 'weight', type: ['null', 'double'] },
    { name: 'flag', type: ['null', 'boolean'] },
    { name: 'note', type: ['null', 'string'] },
    { name: 'day', type: ['null', { type: 'int', logicalType: 'date' }] },
    { name: 'event_time', type: { type: 'long', logicalType: 'timestamp-millis' } },
  ],
};

function decimal(precision: number, scale: number): object {
  return { type: 'bytes', logicalType: 'decimal', precision, scale };
}

/** Name, aggregate, and the same in plain SQL over the table `records`. */
const exact: readonly (readonly [name: string, aggregate: string, sql: string])[] = [
  ['records', 'count(*)', 'count(*)'],
  ...['cents', 'exact', 'small', 'large'].flatMap((column) =>
    ['var_samp', 'var_pop', 'stddev_samp', 'stddev_pop'].map((by) => {
      const root = by.startsWith('stddev');
      const plain = by.replace('stddev', 'var');
      return [
        `${by}_${column}`,
        `${by}(${column})`,
        root ? `sqrt(${plain}(${column}))` : `${plain}(${column})`,
      ] as const;
    }),
  ),
  ['variance_small', 'variance(small)', 'variance(small)'],
  ['stddev_small', 'stddev(small)', 'sqrt(variance(small))'],
  ['all_flags', 'bool_and(flag)', 'bool_and(flag)'],
  ['any_flag', 'bool_or(flag)', 'bool_or(flag)'],
  ...['cents', 'large', 'weight', 'flag', 'note', 'day', 'event_time'].flatMap((column) =>
    (['first', 'last'] as const).map((by) => {
      const order = ['event_time', 'partition', 'record_offset']
        .map((key) => `${key} ${by === 'first' ? 'ASC' : 'DESC'}`)
        .join(', ');
      return [
        `${by}_${column}`,
        `${by}(${column})`,
        `(array_agg(${column} ORDER BY ${order}) FILTER (WHERE ${column} IS NOT NULL))[1]`,
      ] as const;
    }),
  ),
  ...(
    [
      ['cents', ['-1.5', '0', '2.25']],
      ['large', ['0.5']],
      ['weight', ['-7', '0.1', '1.5']],
    ] as const
  ).map(([column, bounds]) => {
    const conditions = [...bounds, null].map((to, i) => {
      const from = bounds[i - 1];
      return [
        `${column} IS NOT NULL`,
        ...(from === undefined ? [] : [`${column} >= ${from}`]),
        ...(to === null ? [] : [`${column} < ${to}`]),
      ].join(' AND ');
    });
    return [
      `buckets_${column}`,
      `histogram(${column}, [${bounds.join(', ')}])`,
      `ARRAY[${conditions.map((condition) => `count(*) FILTER (WHERE ${condition})`).join(', ')}]`,
    ] as const;
  }),
];

const ranks = ['0', '0.1', '0.5', '0.95', '1'];
const sketchedNumbers = ['cents', 'small', 'large', 'weight'];
const sketchedValues = ['note', 'small', 'weight', 'flag', 'day', 'event_time', 'cents'];
const sketches: readonly (readonly [string, string])[] = [
  ...sketchedNumbers.flatMap((column) =>
    ranks.map((q, i) => [`q${String(i)}_${column}`, `approx_quantile(${column}, ${q})`] as const),
  ),
  ['median_cents', 'approx_median(cents)'],
  ...sketchedValues.map(
    (column) => [`distinct_${column}`, `approx_count_distinct(${column})`] as const,
  ),
];

const definition = (aggregates: readonly (readonly [string, string, string?])[]): string => `
sources:
  orders: { schema: orders.avsc, event_time: event_time }
tables:
  results:
    source: orders
    window: { tumbling: 1s }
    group_by: [region]
    aggregates:
${aggregates.map(([name, aggregate]) => `      ${name}: '${aggregate}'`).join('\n')}
`;

interface Share {
  readonly record: Readonly<Record<string, unknown>>;
  readonly partition: number;
  readonly offset: bigint;
}

const record = fc.record({
  region: fc.option(fc.constantFrom('eu', '')),
  cents: fc.option(fc.integer({ min: -500, max: 500 }).map((cents) => (cents / 100).toFixed(2))),
  exact: fc.option(
    fc.oneof(
      fc.constantFrom('99999999999999.9999', '-99999999999999.9999', '0.0001'),
      fc.integer({ min: -99, max: 99 }).map((whole) => `${String(whole)}.5`),
    ),
  ),
  small: fc.option(fc.oneof(fc.integer({ min: -5, max: 5 }), fc.integer())),
  large: fc.option(
    fc.oneof(
      fc.constantFrom('9223372036854775807', '-9223372036854775808', '10000000000', '-1', '0'),
      fc.bigInt({ min: -(2n ** 63n), max: 2n ** 63n - 1n }).map(String),
    ),
  ),
  weight: fc.option(
    fc.oneof(
      fc.constantFrom(0, -0, 0.1, 1.5, -7, 1e300, -1e300, 1e-300, 2 ** 63, 2 ** -30, 4, 1024),
      fc.double({ noNaN: true, noDefaultInfinity: true }),
      fc.double({ min: -1000, max: 1000, noNaN: true }),
    ),
  ),
  flag: fc.option(fc.boolean()),
  note: fc.option(fc.constantFrom('', 'a', 'ä"\\,', 'a,\nb', 'NULL', '\\N')),
  day: fc.option(fc.integer({ min: -800, max: 30_000 })),
  // Few, so that partition and offset often decide which is first.
  event_time: fc.constantFrom(-1001, -1000, -1, 0, 1, 999),
});

/** As JSON, with longs and -0 as they are. */
function lineOf({ record: value }: Share): string {
  const members = Object.entries(value).map(([name, member]) => {
    const json =
      name === 'large' && typeof member === 'string'
        ? member
        : Object.is(member, -0)
          ? '-0.0'
          : JSON.stringify(member);
    return `"${name}":${json}`;
  });
  return `{${members.join(',')}}\n`;
}

function blocksOf(shares: readonly Share[]): TextBlock[] {
  return [...new Set(shares.map(({ partition }) => partition))].map((partition) => {
    const own = shares.filter((share) => share.partition === partition);
    return {
      partition,
      text: Buffer.from(own.map(lineOf).join('')),
      runs: own.map(({ offset }) => ({ start: offset, count: 1 })),
    };
  });
}

let folder: string;

beforeAll(() => {
  folder = mkdtempSync(path.join(os.tmpdir(), 'anabranch-aggregates-'));
  writeFileSync(path.join(folder, 'orders.avsc'), JSON.stringify(schema));
});

afterAll(() => {
  rmSync(folder, { recursive: true });
});

/** Both processors and a database, for a table `results` with these aggregates. */
async function chainFor(aggregates: Parameters<typeof definition>[0]) {
  const file = path.join(folder, 'anabranch.yaml');
  writeFileSync(file, definition(aggregates));
  const plan = await loadPlan(file);
  const table = plan.tables.get('results') as WindowPlan;
  const open = (branch: 'stream' | 'batch'): Promise<Processor> =>
    Processor.open(plan.sources.get('orders')!, { memoryLimit: '512MB', threads: 1, branch });
  const processors = { stream: await open('stream'), batch: await open('batch') };
  onTestFinished(() => {
    processors.stream.close();
    processors.batch.close();
  });
  const { pool, query, connect } = await databaseWith(plan);
  const columns = table.columns.map((column) => pg.escapeIdentifier(column.name));
  const states = table.columns
    .filter(({ role }) => !role.endsWith('_records'))
    .map((column) => `${pg.escapeIdentifier(column.name)}::text`);
  return {
    query,
    connect,
    /** One text per partition. */
    textsOf: async (branch: 'stream' | 'batch', shares: readonly Share[]): Promise<Buffer[]> => {
      const { tables, deadLetters } = await processors[branch].process(blocksOf(shares));
      expect(deadLetters).toEqual([]);
      return tables.map(({ text }) => text);
    },
    merge: (texts: readonly Buffer[]): Promise<void> =>
      transaction(pool, async (client) => {
        await copyRows(client, stagingTable('results'), columns, texts);
        await client.query(mergeWindow(table));
      }),
    /** All of the states, and empties the table. */
    takeStates: async (): Promise<Row[]> => {
      const rows = await query(
        `SELECT ${states.join(', ')}, _stream_records + _batch_records AS records FROM ${stateTable('results')} ORDER BY _window_start, region`,
      );
      await query(`TRUNCATE ${stateTable('results')}`);
      return rows;
    },
  };
}

async function fillRecords(query: Query, shares: readonly Share[]): Promise<void> {
  const rows = shares.map(({ record: value, partition, offset }) => ({
    ...value,
    // Postgres knows no -0 in a JSON number.
    weight: Object.is(value['weight'], -0) ? '-0' : value['weight'],
    partition,
    record_offset: String(offset),
  }));
  await query('DROP TABLE IF EXISTS records');
  await query(
    `CREATE TABLE records AS
     SELECT date_bin('1 second', at, 'epoch') AS window_start, at AS event_time, region, cents, exact, small, large, weight, flag, note,
       date '1970-01-01' + day AS day, partition, record_offset
     FROM (SELECT *, to_timestamp(0) + event_time * interval '1 millisecond' AS at
       FROM jsonb_to_recordset($1::jsonb) AS r (region text, cents numeric(12,2), exact numeric(18,4), small int, large bigint,
         weight float8, flag boolean, note text COLLATE "C", day int, event_time bigint, partition int, record_offset bigint)) r`,
    [JSON.stringify(rows)],
  );
}

/** Postgres writes a variance of 0 without decimals. */
const casted = (list: readonly (readonly [string, ...string[]])[], at: number): string =>
  list
    .map((entry) => {
      const sql = entry[at] ?? '';
      return `${/^(var|stddev)/.test(entry[0]) ? `trim_scale(${sql})` : `(${sql})`}::text AS ${entry[0]}`;
    })
    .join(', ');

const oneResult = (sql: string): string =>
  `SELECT window_start, region, ${sql} FROM records GROUP BY window_start, region ORDER BY window_start, region`;

it('splits and orders of merging change no state and no result, and the exact results are those of plain SQL', async () => {
  const { query, textsOf, merge, takeStates } = await chainFor([...exact, ...sketches]);
  const drawing = fc.record({
    shares: fc.array(
      fc.record({
        record,
        partition: fc.nat({ max: 2 }),
        branch: fc.constantFrom('stream' as const, 'batch' as const),
        partial: fc.nat({ max: 2 }),
      }),
      { minLength: 1, maxLength: 40 },
    ),
    /** So many more, all different: for the dense form of HyperLogLog. */
    extra: fc.oneof(fc.constant(0), fc.integer({ min: 100, max: 500 })),
    order: fc.array(fc.nat(), { minLength: 30, maxLength: 30 }),
    steps: fc.integer({ min: 1, max: 6 }),
  });
  await fc.assert(
    fc.asyncProperty(drawing, async ({ shares: drawn, extra, order, steps }) => {
      const everything = [
        ...drawn,
        ...Array.from({ length: extra }, (_, i) => ({
          ...drawn[i % drawn.length]!,
          record: {
            ...drawn[i % drawn.length]!.record,
            note: `extra ${String(i)}`,
            small: i * i,
            cents: (i * 1.37).toFixed(2),
          },
          partition: i % 3,
          partial: ((i * 7) >> 3) % 3,
        })),
      ];
      const next = [0n, 0n, 0n];
      const all = everything.map((share) => ({ ...share, offset: next[share.partition]!++ }));
      await merge(await textsOf('stream', all));
      const whole = await takeStates();

      const parts = Map.groupBy(all, ({ branch, partial }) => `${branch} ${String(partial)}`);
      const texts: Buffer[] = [];
      for (const part of parts.values()) {
        texts.push(...(await textsOf(part[0]!.branch, part)));
      }
      const shuffled = texts
        .map((text, i) => ({ text, place: order[i] ?? 0 }))
        .toSorted((a, b) => a.place - b.place)
        .map(({ text }) => text);
      const size = Math.ceil(shuffled.length / steps);
      for (let at = 0; at < shuffled.length; at += size) {
        await merge(shuffled.slice(at, at + size));
      }
      await fillRecords(query, all);
      expect(
        await query(
          `SELECT window_start, region, ${casted(exact, 0)} FROM results ORDER BY window_start, region`,
        ),
      ).toEqual(await query(oneResult(casted(exact, 2))));

      const approximate = await query(
        `SELECT ${sketches.map(([name]) => name).join(', ')} FROM results ORDER BY window_start, region`,
      );
      const truth = await query(
        oneResult(
          [
            ...sketchedNumbers.map(
              (column) =>
                `array_agg(${column}::float8 ORDER BY ${column}) FILTER (WHERE ${column} IS NOT NULL) AS ${column}`,
            ),
            ...sketchedValues.map(
              (column) => `count(DISTINCT ${column})::int AS distinct_${column}`,
            ),
          ].join(', '),
        ),
      );
      for (const [i, row] of truth.entries()) {
        for (const column of sketchedNumbers) {
          for (const [k, q] of ranks.entries()) {
            expectNear(approximate[i]![`q${String(k)}_${column}`], row[column], q);
          }
        }
        expectNear(approximate[i]!['median_cents'], row['cents'], '0.5');
        for (const column of sketchedValues) {
          const distinct = Number(row[`distinct_${column}`]);
          const found = Number(approximate[i]![`distinct_${column}`]);
          // Two values may share a register, however few there are.
          expect(Math.abs(found - distinct)).toBeLessThanOrEqual(1 + 0.05 * distinct);
        }
      }
      expect(await takeStates()).toEqual(whole);
    }),
    { numRuns: 6 },
  );
}, 180_000);

function expectNear(foundValue: unknown, values: unknown, q: string): void {
  const [found, sorted] = [foundValue, values] as [number | null, readonly number[] | null];
  if (sorted === null) {
    expect(found).toBeNull();
    return;
  }
  const value = sorted[Math.floor((sorted.length - 1) * Number(q) + 1e-9)]!;
  if (Math.abs(value) < 2 ** -30) {
    expect(found).toBe(0);
  } else if (Math.abs(value) >= 2 ** 63) {
    expect(found).toBe(value * Infinity);
  } else {
    expect(Math.abs(found! - value)).toBeLessThanOrEqual(0.01 * Math.abs(value));
  }
}

it.each([0, 1, 2, 50, 128, 129, 1000, 5000, 20_000, 100_000])(
  'approx_count_distinct is within three standard errors of %i values, and is 0 for none',
  async (distinct) => {
    const { query, textsOf, merge } = await chainFor([['found', 'approx_count_distinct(note)']]);
    const base = Object.fromEntries(schema.fields.map(({ name }) => [name, null]));
    const size = 20_000;
    for (let from = 0; from < Math.max(distinct, 1); from += size) {
      const length = Math.max(1, Math.min(size, distinct - from));
      const shares = Array.from({ length }, (_, i) => ({
        record: {
          ...base,
          note: distinct === 0 ? null : `value ${String(from + i)}`,
          event_time: 1,
        },
        partition: from % 3,
        offset: BigInt(from + i),
      }));
      // Twice: what came before changes nothing.
      const texts = [
        ...(await textsOf('stream', shares)),
        ...(await textsOf('batch', shares.slice(0, 5000))),
      ];
      await merge(texts);
    }
    const [row] = await query('SELECT found FROM results');
    expect(Math.abs(Number(row?.['found']) - distinct)).toBeLessThanOrEqual(3 * 0.0163 * distinct);
  },
);

it('whoever may read the view may read its sketches, with no right on schema anabranch', async () => {
  const { query, connect, textsOf, merge } = await chainFor([
    ['found', 'approx_count_distinct(note)'],
    ['middle', 'approx_median(small)'],
  ]);
  const base = Object.fromEntries(schema.fields.map(({ name }) => [name, null]));
  const one = { ...base, note: 'a', small: 4, event_time: 1 };
  await merge(await textsOf('stream', [{ record: one, partition: 0, offset: 0n }]));
  await query(
    'CREATE ROLE sketch_reader; GRANT USAGE ON SCHEMA public TO sketch_reader; GRANT SELECT ON results TO sketch_reader',
  );
  onTestFinished(async () => {
    await query('DROP OWNED BY sketch_reader; DROP ROLE sketch_reader');
  });
  const client = await connect();
  await client.query('SET ROLE sketch_reader');
  const { rows } = await client.query<{ found: bigint; middle: number }>(
    'SELECT found, middle FROM results',
  );
  expect(rows[0]?.found).toBe(1n);
  expect(Math.abs((rows[0]?.middle ?? 0) - 4)).toBeLessThanOrEqual(0.04);
});
