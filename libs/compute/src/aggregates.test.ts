import { createHash } from 'node:crypto';
import { DefinitionError, type Field, type Table } from '@anabranch/definition';
import { describe, expect, it } from 'vitest';
import {
  decimal,
  engineOptions,
  field,
  planOf,
  source,
  textOf,
  windowed,
} from './definition-fixture.ts';
import { Processor } from './processor.ts';

const fields: Field[] = [
  field('price', decimal(12, 2), true),
  field('wide', decimal(28, 6), true),
  field('amount', decimal(18, 4), true),
  field('quantity', 'int', true),
  field('serial', 'long', true),
  field('weight', 'double', true),
  field('note', 'string', true),
  field('express', 'boolean', true),
  field('id', 'uuid', true),
];

/** The states of one group, by the suffix of their columns, as they stand in the text for COPY. */
async function statesOf(
  aggregate: string,
  records: readonly object[],
): Promise<Record<string, string>> {
  const plan = await planOf(source(fields), [windowed('t', [], { x: aggregate })]);
  const processor = await Processor.open(plan, { ...engineOptions, branch: 'stream' });
  try {
    const lines = records.map((record) => JSON.stringify({ event_time: 0, ...record }));
    const { tables, deadLetters } = await processor.process([
      { partition: 7, text: textOf(lines), runs: [{ start: 40n, count: lines.length }] },
    ]);
    expect(deadLetters).toEqual([]);
    const values = tables[0]!.text.toString().trimEnd().split(',');
    const columns = plan.tables[0]!.columns.map(({ name }) => name);
    return Object.fromEntries(
      columns.flatMap((name, i) => (name.startsWith('_x_') ? [[name.slice(3), values[i]!]] : [])),
    );
  } finally {
    processor.close();
  }
}

const notes = (...values: (string | null)[]): object[] => values.map((note) => ({ note }));
const weights = (...values: number[]): object[] => values.map((weight) => ({ weight }));

// Whoever changes one of these texts makes sketches that can't be merged with those that are stored.
describe('the stored form of', () => {
  it.each([
    ['none', [], ''],
    ['one', ['a'], 'x10c03'],
    ['two, in order of their registers', ['b', 'a', 'b'], 'x10c03b9202'],
  ])('distinct values, few: %s', async (_, values, state) => {
    expect(await statesOf('approx_count_distinct(note)', notes(null, ...values))).toEqual({
      registers: state,
    });
  });

  it('distinct values, many: a plane of bits for each bit of the registers', async () => {
    const quantities = Array.from({ length: 3000 }, (_, quantity) => quantity);
    const { registers } = await statesOf(
      'approx_count_distinct(quantity)',
      quantities.map((quantity) => ({ quantity })),
    );
    const ranks = Array.from({ length: 4096 }, () => 0);
    for (const quantity of quantities) {
      const hash = createHash('md5').update(String(quantity)).digest().readBigUInt64LE();
      const bits = (hash >> 12n).toString(2);
      const rank = bits.length - bits.lastIndexOf('1');
      const register = Number(hash % 4096n);
      ranks[register] = Math.max(ranks[register]!, rank);
    }
    const planes = [0, 1, 2, 3, 4, 5].map((plane) =>
      ranks.map((rank) => String((rank >> plane) & 1)).join(''),
    );
    const hex = BigInt(`0b${planes.join('')}`)
      .toString(16)
      .padStart(6144, '0');
    expect(registers).toBe(`x${hex.toUpperCase()}`);
  });

  it('128 registers is a list, and of one more planes', async () => {
    const lengths: number[] = [];
    for (let count = 120; count <= 140; count++) {
      const { registers = '' } = await statesOf(
        'approx_count_distinct(quantity)',
        Array.from({ length: count }, (_, quantity) => ({ quantity })),
      );
      lengths.push(registers.length);
    }
    expect(lengths).toContain(1 + 5 * 128);
    expect(lengths.filter((length) => length > 1 + 5 * 128 && length !== 6145)).toEqual([]);
  });

  it('a quantile: twelve digits a bucket, and nothing below the smallest', async () => {
    const bucket = (i: number): string => `e${String(12 * i)}`;
    expect(
      await statesOf('approx_quantile(weight; 0.5)', weights(1, 1, 1.03, 0, 2 ** -31, -2)),
    ).toEqual({
      count: '6',
      below: '1',
      zeros: '2',
      positive: `000000000001000000000002${bucket(1500)}`,
      negative: `000000000001${bucket(1550)}`,
    });
    expect(
      await statesOf('approx_median(weight)', weights(2 ** -30, 1e300, -(2 ** 63), 2 ** 63 - 1024)),
    ).toMatchObject({
      positive: `000000000001000000000001${'0'.repeat(12 * 4648)}000000000001e0`,
      negative: `000000000001${bucket(4650)}`,
    });
  });

  it('a first and a last value: its text behind time, partition and offset', async () => {
    const records = [
      { note: null, event_time: -5 },
      { note: 'b', event_time: -1 },
      { note: 'a', event_time: -1 },
    ];
    const place = (time: string, offset: string): string => `"${time}0000000007${offset}`;
    expect(await statesOf('first(note)', records)).toEqual({
      first: `${place('062135596799999000', '0000000000000000041')}b"`,
    });
    expect(await statesOf('last(note)', records)).toEqual({
      last: `${place('062135596799999000', '0000000000000000042')}a"`,
    });
  });

  it('a variance: number, sum and squares; of long numbers the squares of two halves', async () => {
    expect(
      await statesOf('var_pop(price)', [{ price: '1.50' }, { price: '-2.25' }, { price: null }]),
    ).toEqual({ count: '2', sum: '-0.75', squares: '73125' });
    expect(
      await statesOf('stddev_samp(serial)', [
        { serial: 10_000_000_003 },
        { serial: -20_000_000_005 },
      ]),
    ).toEqual({ count: '2', sum: '-10000000002', high: '5', cross: '13', low: '34' });
  });
});

it('what shares an argument shares the states, under the name of the first one', async () => {
  const plan = await planOf(source(fields), [
    windowed('t', [], {
      p50: 'approx_quantile(weight; 0.5)',
      p95: 'approx_quantile(weight; 0.95)',
      middle: 'approx_median(weight)',
      other: 'approx_median(quantity)',
      spread: 'var_samp(quantity)',
      deviation: 'stddev_pop(quantity)',
      total: 'sum(quantity)',
    }),
  ]);
  const { columns, results } = plan.tables[0]!;
  expect(columns.filter(({ role }) => role === 'state').map(({ name }) => name)).toEqual([
    ...['p50', 'other'].flatMap((name) =>
      ['count', 'below', 'zeros', 'negative', 'positive'].map((suffix) => `_${name}_${suffix}`),
    ),
    ...['count', 'sum', 'squares'].map((suffix) => `_spread_${suffix}`),
    '_total_sum',
  ]);
  expect(results.find(({ name }) => name === 'p95')).toMatchObject({
    sql: 'anabranch.quantile_value(0.95, s."_p50_count", s."_p50_below", s."_p50_zeros", s."_p50_negative", s."_p50_positive")',
    comment:
      'approx_quantile(weight, 0.95): at most 1 % off the value at that rank; less than 9.3e-10 in size is 0, from 9.2e18 on Infinity',
  });
});

it.each([
  ['approx_count_distinct(note)', 'HyperLogLog: the standard error is 1.6 %'],
  ['first(note)', "by event time, then partition and offset; nulls don't count"],
])('the comment of %s says how far it goes', async (call, remark) => {
  const plan = await planOf(source(fields), [windowed('t', [], { x: call })]);
  expect(plan.tables[0]?.results[0]?.comment).toBe(`${call}: ${remark}`);
});

it.each([
  ['var_samp(weight)', 'var_samp of DOUBLE depends on the order in which records are added'],
  [
    'stddev_pop(wide)',
    'stddev_pop of DECIMAL(28,6) could overflow: cast to at most 18 digits first',
  ],
  ['variance(note)', 'variance needs numbers, not VARCHAR'],
  ['var_pop(quantity::hugeint)', 'var_pop of HUGEINT could overflow: cast to bigint first'],
  ['bool_and(quantity)', 'bool_and needs a condition, not INTEGER'],
  ['approx_median(note)', 'approx_median needs numbers, not VARCHAR'],
  ['histogram(note; 1)', 'histogram needs numbers, not VARCHAR'],
  ['histogram(quantity::hugeint; 1)', 'histogram needs numbers, not HUGEINT'],
  [
    'histogram(price::decimal(38,10); 0.00000000001)',
    "DECIMAL(38,10) can't be compared exactly with all of the bounds",
  ],
  ['first([note])', "first of VARCHAR[] isn't possible"],
  ['approx_count_distinct([note])', "approx_count_distinct of VARCHAR[] isn't possible"],
])('%s is refused with the reason', async (call, reason) => {
  const table: Table = windowed('t', [], { x: call });
  const refusal = await planOf(source(fields), [table]).then(
    () => 'accepted',
    (error: unknown) => (error instanceof DefinitionError ? error.message : error),
  );
  expect(refusal).toContain(`table t, aggregate x: ${reason}`);
});

it("a value that Postgres can't hold makes a dead letter of its record, also as a first or last one", async () => {
  for (const aggregate of ['first(chr(ascii(note)))', 'last(chr(ascii(note)))']) {
    const plan = await planOf(source(fields), [windowed('t', [], { x: aggregate })]);
    const processor = await Processor.open(plan, { ...engineOptions, branch: 'batch' });
    const lines = ['a', ''].map((note) => JSON.stringify({ event_time: 0, note }));
    const { deadLetters, tables } = await processor.process([
      { partition: 0, text: textOf(lines), runs: [{ start: 0n, count: 2 }] },
    ]);
    processor.close();
    expect(deadLetters).toMatchObject([{ offset: 1n, code: 'expression' }]);
    expect(tables).toMatchObject([{ aggregated: 1, dead: 1 }]);
  }
});
