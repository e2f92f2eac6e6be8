import type { Field, FieldType, SplitRule } from '@anabranch/definition';
import fc from 'fast-check';
import { afterEach, describe, expect, it } from 'vitest';
import { type Classified, Classifier, type RecordBlock } from './classifier.ts';
import {
  append,
  decimal,
  engineOptions,
  expression,
  field,
  planOf,
  source,
  textOf,
} from './definition-fixture.ts';
import { Engine } from './engine.ts';
import { Processor } from './processor.ts';

const opened: (Classifier | Processor)[] = [];

afterEach(() => {
  for (const one of opened.splice(0)) {
    one.close();
  }
});

async function classifierOf(
  fields: readonly Field[],
  split: readonly SplitRule[] = [],
): Promise<Classifier> {
  const classifier = await Classifier.open(await planOf(source(fields, { split })), engineOptions);
  opened.push(classifier);
  return classifier;
}

const rule = (sql: string, to: SplitRule['to'] = 'batch'): SplitRule => ({
  name: sql,
  when: expression(sql),
  to,
  divert: false,
});

const block = (lines: readonly string[], change: Partial<RecordBlock> = {}): RecordBlock => ({
  partition: 0,
  text: textOf(lines),
  count: lines.length,
  highest: null,
  timestamps: null,
  headers: null,
  ...change,
});

const noCeiling = 2n ** 62n;
const now = 1_762_074_000_000;
const microseconds = (milliseconds: number): bigint => BigInt(milliseconds) * 1000n;

/** What became of each record: index of a rule, `default`, or why it is dead. */
function fates({ exceptions, reasons }: Classified, count: number): (number | string)[] {
  const all: (number | string)[] = Array<string>(count).fill('default');
  exceptions.positions.forEach((position, i) => {
    const verdict = exceptions.verdicts[i] ?? 0;
    all[position] = verdict < 0 ? (reasons[-1 - verdict]?.code ?? '?') : verdict;
  });
  return all;
}

/** JSON values for a required field `f`: undefined means that it is missing. */
const cases: Record<
  string,
  {
    type: FieldType;
    good: readonly string[];
    bad: readonly (readonly [string | undefined, string])[];
  }
> = {
  boolean: {
    type: { kind: 'boolean' },
    good: ['true', 'false'],
    bad: [
      [undefined, 'missing'],
      ['null', 'missing'],
      ['"true"', 'wrong-type'],
      ['1', 'wrong-type'],
      ['0', 'wrong-type'],
    ],
  },
  int: {
    type: { kind: 'int' },
    good: ['0', '-0', '2147483647', '-2147483648'],
    bad: [
      [undefined, 'missing'],
      ['null', 'missing'],
      ['2147483648', 'out-of-range'],
      ['-2147483649', 'out-of-range'],
      ['"12"', 'wrong-type'],
      ['true', 'wrong-type'],
      ['1.5', 'wrong-type'],
      ['1.0', 'wrong-type'],
      ['1e3', 'wrong-type'],
      ['1E3', 'wrong-type'],
      ['[1]', 'wrong-type'],
      ['{"f":1}', 'wrong-type'],
      ['NaN', 'not-finite'],
      ['-Infinity', 'not-finite'],
    ],
  },
  long: {
    type: { kind: 'long' },
    good: ['9223372036854775807', '-9223372036854775808', '9007199254740993'],
    bad: [
      ['9223372036854775808', 'out-of-range'],
      ['-9223372036854775809', 'out-of-range'],
      ['18446744073709551616', 'out-of-range'],
      ['123456789012345678901234567890', 'out-of-range'],
      ['"9223372036854775807"', 'wrong-type'],
      ['1e18', 'wrong-type'],
    ],
  },
  float: {
    type: { kind: 'float' },
    good: ['1', '-1.5', '1e38', '1e-60', '0.1'],
    bad: [
      ['1e39', 'not-finite'],
      ['NaN', 'not-finite'],
      ['"1"', 'wrong-type'],
      ['true', 'wrong-type'],
    ],
  },
  double: {
    type: { kind: 'double' },
    good: ['1', '-1.5', '1e308', '-0.0', '1e-400', '123456789012345678901234567890'],
    bad: [
      [undefined, 'missing'],
      ['null', 'missing'],
      ['1e400', 'not-finite'],
      ['-1e400', 'not-finite'],
      ['NaN', 'not-finite'],
      ['Infinity', 'not-finite'],
      ['"NaN"', 'wrong-type'],
      ['"1.5"', 'wrong-type'],
      ['false', 'wrong-type'],
    ],
  },
  string: {
    type: { kind: 'string' },
    good: [
      '""',
      '"x"',
      '"\\u00e4\\"\\\\"',
      '"\\ud83d\\ude00"',
      '"null"',
      '"\\\\u0000"',
      '"__proto__"',
    ],
    bad: [
      [undefined, 'missing'],
      ['null', 'missing'],
      ['5', 'wrong-type'],
      ['true', 'wrong-type'],
      ['{"a":1}', 'wrong-type'],
      ['["x"]', 'wrong-type'],
      ['"a\\u0000b"', 'nul'],
      ['"\\ud800"', 'malformed'],
      ['"\\ude00\\ud83d"', 'malformed'],
    ],
  },
  uuid: {
    type: { kind: 'uuid' },
    good: ['"8b1b6a1e-6f1f-4a0e-9d2b-00000000000A"'],
    bad: [
      ['"8b1b6a1e"', 'wrong-type'],
      ['"{8b1b6a1e-6f1f-4a0e-9d2b-000000000000}"', 'wrong-type'],
      ['""', 'wrong-type'],
      ['5', 'wrong-type'],
    ],
  },
  enum: {
    type: { kind: 'enum', symbols: ['NEW', 'PAID'] },
    good: ['"NEW"', '"PAID"', '"P\\u0041ID"'],
    bad: [
      ['"new"', 'enum'],
      ['"SENT"', 'enum'],
      ['""', 'enum'],
      ['"\\u0000"', 'enum'],
      ['0', 'wrong-type'],
    ],
  },
  decimal: {
    type: decimal(12, 2),
    good: [
      '"1"',
      '"-1.5"',
      '"1.50"',
      '"1.5000"',
      '"0012.34"',
      '"9999999999.99"',
      '0',
      '1.5',
      '-0.01',
      '1e2',
      '9999999999.99',
      '1234567890',
    ],
    bad: [
      [undefined, 'missing'],
      ['"1.005"', 'inexact'],
      ['1.005', 'inexact'],
      ['0.1000000000000000055', 'inexact'],
      ['0.30000000000000004', 'inexact'],
      ['1e-3', 'inexact'],
      ['"10000000000"', 'out-of-range'],
      ['10000000000', 'out-of-range'],
      ['"1e2"', 'wrong-type'],
      ['" 1 "', 'wrong-type'],
      ['"1_000"', 'wrong-type'],
      ['"+1"', 'wrong-type'],
      ['"."', 'wrong-type'],
      ['""', 'wrong-type'],
      ['"NaN"', 'wrong-type'],
      ['NaN', 'not-finite'],
      ['true', 'wrong-type'],
    ],
  },
  'a wide decimal': {
    type: decimal(38, 10),
    good: ['"1234567890123456789012345678.0123456789"', '1234567890123456789012345678', '12345.5'],
    bad: [
      // Seventeen digits: the double next to it prints the same.
      ['12345678.0123456789', 'inexact'],
      ['123456.5', 'inexact'],
      ['"12345678901234567890123456789"', 'out-of-range'],
    ],
  },
  'a whole decimal': {
    type: decimal(20, 0),
    good: ['281524546444345', '"12345678901234567890"', '12345678901234567890', '1e3'],
    bad: [
      // The double next to it is a whole number.
      ['281524546444344.97', 'inexact'],
      ['0.5', 'inexact'],
    ],
  },
  'a fraction': {
    type: decimal(3, 3),
    good: ['"0.123"', '0.5', '"00.5"', '0'],
    bad: [
      ['"1.000"', 'out-of-range'],
      ['1', 'out-of-range'],
      ['".5"', 'wrong-type'],
    ],
  },
  date: {
    type: { kind: 'date' },
    good: ['"2026-02-28"', '"0001-01-01"', '"9999-12-31"', '0', '-719162', '2932896'],
    bad: [
      ['"2026-02-30"', 'wrong-type'],
      ['"2026-2-3"', 'wrong-type'],
      ['"2026-01-01x"', 'wrong-type'],
      ['"2026-01-01T00:00:00Z"', 'wrong-type'],
      ['"0000-01-01"', 'wrong-type'],
      ['"infinity"', 'wrong-type'],
      ['-719163', 'out-of-range'],
      ['2932897', 'out-of-range'],
      ['1.5', 'wrong-type'],
      ['true', 'wrong-type'],
    ],
  },
  'timestamp-millis': {
    type: { kind: 'timestamp-millis' },
    good: [
      '"2026-01-31T12:00:00Z"',
      '"2026-01-31T12:00:00+02:00"',
      '"2026-01-31 12:00:00"',
      '"2026-01-31T12:00:00.123456789Z"',
      '0',
      '-62135596800000',
      '253402300799999',
    ],
    bad: [
      [undefined, 'missing'],
      ['"2026-02-30T00:00:00Z"', 'wrong-type'],
      ['"yesterday"', 'wrong-type'],
      ['"infinity"', 'wrong-type'],
      ['"1762074000000"', 'wrong-type'],
      ['"0000-12-31T00:00:00Z"', 'wrong-type'],
      ['-62135596800001', 'out-of-range'],
      ['253402300800000', 'out-of-range'],
      ['9223372036854775807', 'out-of-range'],
      ['1e12', 'wrong-type'],
      ['1762074000000.5', 'wrong-type'],
      ['NaN', 'not-finite'],
      ['true', 'wrong-type'],
    ],
  },
  'timestamp-micros': {
    type: { kind: 'timestamp-micros' },
    good: ['1762074000000000', '"2026-01-31T12:00:00.000001Z"', '253402300799999999'],
    bad: [['253402300800000000', 'out-of-range']],
  },
};

const lineWith = (value: string | undefined): string =>
  `{"event_time":${String(now)}${value === undefined ? '' : `,"f":${value}`}}`;

describe.each(Object.entries(cases))('a required field of type %s', (_, { type, good, bad }) => {
  it('takes what is exactly one of its values', async () => {
    const classifier = await classifierOf([field('f', type)]);
    const [result] = await classifier.classify([block(good.map(lineWith))], noCeiling);
    expect(
      result && Object.fromEntries(good.map((value, i) => [value, fates(result, good.length)[i]])),
    ).toEqual(Object.fromEntries(good.map((value) => [value, 'default'])));
  });

  it('refuses anything else, and says why', async () => {
    const classifier = await classifierOf([field('f', type)]);
    const [result] = await classifier.classify(
      [block(bad.map(([value]) => lineWith(value)))],
      noCeiling,
    );
    const told = result && fates(result, bad.length);
    expect(Object.fromEntries(bad.map(([value], i) => [String(value), told?.[i]]))).toEqual(
      Object.fromEntries(bad.map(([value, code]) => [String(value), code])),
    );
    for (const { code, detail } of result?.reasons ?? []) {
      expect(detail).toMatch(code === 'malformed' ? /JSON/ : /^field "f": /);
    }
  });

  it('is not blamed for another field', async () => {
    const classifier = await classifierOf([field('f', type), field('g', { kind: 'boolean' })]);
    const [result] = await classifier.classify([block(good.map(lineWith))], noCeiling);
    expect(result && fates(result, good.length)).toEqual(good.map(() => 'missing'));
    expect(result?.reasons.map(({ detail }) => detail.slice(0, 9))).toEqual(
      result?.reasons.map(() => 'field "g"'),
    );
  });

  it('is as strict where it may be null, but for null and missing', async () => {
    const classifier = await classifierOf([field('f', type, true)]);
    const values = [...bad.map(([value]) => value), ...good, 'null', undefined];
    const [result] = await classifier.classify([block(values.map(lineWith))], noCeiling);
    expect(result && fates(result, values.length)).toEqual(
      values.map((value, i) =>
        value === 'null' || value === undefined || i >= bad.length ? 'default' : bad[i]?.[1],
      ),
    );
  });
});

describe('records', () => {
  it('that aren’t one JSON object are dead', async () => {
    const classifier = await classifierOf([]);
    const good = lineWith(undefined);
    const lines: [string, string][] = [
      ['', 'malformed'],
      ['   ', 'malformed'],
      ['{"event_time":', 'malformed'],
      [`${good} trailing`, 'malformed'],
      [good + good, 'malformed'],
      ["{'event_time':1}", 'malformed'],
      ['{"event_time":01}', 'malformed'],
      ['null', 'not-an-object'],
      ['5', 'not-an-object'],
      ['"x"', 'not-an-object'],
      ['true', 'not-an-object'],
      [`[${good}]`, 'not-an-object'],
      ['{}', 'missing'],
      ['{"EVENT_TIME":1}', 'missing'],
      [`  ${good}\t`, 'default'],
      [good.replace('{', '{"other":{"deep":[1]},"__proto__":5,'), 'default'],
      ['{"event_time":1,"event_time":"x"}', 'default'],
      ['{"event_time":"x","event_time":1}', 'wrong-type'],
      ['{"number":"5"}', 'missing'],
    ];
    const [result] = await classifier.classify([block(lines.map(([line]) => line))], noCeiling);
    expect(result && fates(result, lines.length)).toEqual(lines.map(([, fate]) => fate));
    expect(result?.dead).toBe(lines.filter(([, fate]) => fate !== 'default').length);
  });

  it('nested a hundred thousand deep bring nothing down', async () => {
    const classifier = await classifierOf([field('f', 'string', true)]);
    const deep = '['.repeat(100_000);
    const lines = [
      deep,
      deep + ']'.repeat(100_000),
      `{"event_time":1,"other":${deep}${']'.repeat(100_000)}}`,
      `{"event_time":1,"f":${deep}${']'.repeat(100_000)}}`,
      '{"a":'.repeat(100_000),
      lineWith(undefined),
    ];
    const [result] = await classifier.classify([block(lines)], noCeiling);
    expect(result && fates(result, lines.length)).toEqual([
      'malformed',
      'malformed',
      'default',
      'malformed',
      'malformed',
      'default',
    ]);
    expect(result?.reasons.map(({ detail }) => detail)).toContain('the value is nested too deeply');
  });

  it('that lack a field with a default have the default', async () => {
    const fields = [{ ...field('n', 'int'), defaultSql: '7' }];
    const classifier = await classifierOf(fields, [rule('n = 7')]);
    const lines = ['', '"n":null,', '"n":8,', '"n":"7",'].map((n) => `{${n}"event_time":1}`);
    const [result] = await classifier.classify([block(lines)], noCeiling);
    expect(result && fates(result, 4)).toEqual([0, 0, 'default', 'wrong-type']);
  });

  it('of random text are judged without failing', async () => {
    const classifier = await classifierOf([
      field('s', 'string', true),
      field('d', decimal(10, 2), true),
      field('t', 'timestamp-micros', true),
    ]);
    const value = fc.oneof(
      fc.json(),
      fc.string({ unit: 'grapheme' }).map((text) => JSON.stringify(text)),
      fc.constantFrom(
        'NaN',
        '-Infinity',
        'nan',
        '1e999',
        '"\\u0000"',
        '"\\\\u0000"',
        '-',
        '1.',
        '.5',
      ),
    );
    const line = fc.oneof(
      fc.string({ unit: 'grapheme' }),
      fc
        .record({ s: value, d: value, t: value })
        .map(({ s, d, t }) => `{"s":${s},"d":${d},"t":${t},"event_time":1}`),
    );
    await fc.assert(
      fc.asyncProperty(fc.array(line, { maxLength: 20 }), async (some) => {
        const lines = some.map((text) => text.replaceAll('\n', ' '));
        const [result] = await classifier.classify([block(lines)], noCeiling);
        const verdicts = [...(result?.exceptions.verdicts ?? [])];
        expect(verdicts.filter((verdict) => verdict < 0)).toHaveLength(result?.dead ?? -1);
        expect(verdicts.every((verdict) => verdict >= 0 || result?.reasons[-1 - verdict])).toBe(
          true,
        );
      }),
      { numRuns: 30 },
    );
  });
});

describe('split rules', () => {
  it('are asked in order; what none takes goes to the default branch', async () => {
    const classifier = await classifierOf(
      [field('n', 'int', true)],
      [rule('n > 10'), rule('n > 5', 'stream'), rule('n IS NULL')],
    );
    const lines = ['20', '7', '3', 'null', '"x"'].map((n) => `{"n":${n},"event_time":1}`);
    const [result] = await classifier.classify([block(lines)], noCeiling);
    // A rule that sends to the default branch makes no exception, but is counted.
    expect(result && fates(result, 5)).toEqual([0, 'default', 'default', 2, 'wrong-type']);
    expect(result?.rules).toEqual([1, 1, 1, 1]);
    expect(result?.dead).toBe(1);
  });

  it('see late_by: how far the watermark in front of the record is ahead of it', async () => {
    const classifier = await classifierOf(
      [],
      [rule("late_by > interval '10 seconds'"), rule("late_by > interval '0 seconds'")],
    );
    // The disorder is 5 seconds.
    const offsets = [0, 60_000, 55_000, 54_999, 45_000, 44_999, 60_001];
    const lines = offsets.map((offset) => `{"event_time":${String(now + offset)}}`);
    const [result] = await classifier.classify([block(lines)], noCeiling);
    expect(result && fates(result, lines.length)).toEqual([
      'default',
      'default',
      'default',
      1,
      1,
      0,
      'default',
    ]);
    expect(result?.highest).toBe(microseconds(now + 60_001));
    const [next] = await classifier.classify(
      [block([lines[0] ?? ''], { highest: microseconds(now + 60_001) })],
      noCeiling,
    );
    expect(next && fates(next, 1)).toEqual([0]);
    expect(next?.highest).toBe(microseconds(now + 60_001));
  });

  it('are not misled by the time of a dead record, nor by one from the future', async () => {
    const classifier = await classifierOf(
      [field('n', 'int')],
      [rule("late_by > interval '0 seconds'")],
    );
    const line = (offset: number, n = '1'): string =>
      `{"n":${n},"event_time":${String(now + offset)}}`;
    const lines = [line(600_000, '"dead"'), line(0), line(3_600_000), line(0)];
    const [result] = await classifier.classify([block(lines)], microseconds(now + 5000));
    expect(result && fates(result, 4)).toEqual(['wrong-type', 'default', 'default', 'default']);
    expect(result?.highest).toBe(microseconds(now + 5000));
  });

  it('see no age where the producer stamped a time that no calendar has', async () => {
    const classifier = await classifierOf([], [rule("age > interval '1 hour'")]);
    const lines = Array<string>(3).fill(`{"event_time":${String(now)}}`);
    const [classified] = await classifier.classify(
      [block(lines, { timestamps: Float64Array.of(1.7e18, 9.3e15, -1) })],
      noCeiling,
    );
    expect(classified && fates(classified, 3)).toEqual(['default', 'default', 'default']);
  });

  it('see age, bytes and headers', async () => {
    const classifier = await classifierOf(
      [],
      [
        rule("headers['bulk'] = 'true'"),
        rule("headers['Other'] IS NOT NULL"),
        rule("age > interval '1 hour'"),
        rule('bytes > 100'),
      ],
    );
    const lines = Array<string>(6).fill(`{"event_time":${String(now)}}`);
    const [first, second, third] = await classifier.classify(
      [
        block(lines, {
          timestamps: Float64Array.of(now, now, now + 3_600_001, now + 3_600_000, now, now),
          headers: new Map([
            ['bulk', ['true', 'false', null, null, null, null]],
            ['Other', [null, '"\\ \u0000ä', null, null, null, null]],
          ]),
          sizes: Uint32Array.of(1, 1, 1, 1, 101, 100),
        }),
        block(['{"event_time":1}', `{"event_time":2, "pad": "${'ä'.repeat(50)}"}`], {
          partition: 1,
          timestamps: Float64Array.of(1, 1),
        }),
        block([], { partition: 2, highest: 5n }),
      ],
      noCeiling,
    );
    expect(first && fates(first, 6)).toEqual([0, 1, 2, 'default', 3, 'default']);
    expect(second && fates(second, 2)).toEqual(['default', 3]);
    expect(third).toMatchObject({ partition: 2, highest: 5n, dead: 0, rules: [0, 0, 0, 0, 0] });
  });

  it('that fail on a record don’t hold for it, and are asked of the others', async () => {
    const classifier = await classifierOf(
      [field('s', 'string')],
      [rule("s = 'z' OR CAST(s AS integer) > 5"), rule("s = 'x'")],
    );
    const [without] = await classifier.classify([block(['{"s":"z","event_time":1}'])], noCeiling);
    expect(without && fates(without, 1)).toEqual([0]);
    const lines = ['6', '5', 'x', 'y', 'z'].map((s) => `{"s":"${s}","event_time":1}`);
    const [result] = await classifier.classify([block(lines)], noCeiling);
    expect(result && fates(result, 5)).toEqual([0, 'default', 1, 'default', 0]);
  });

  it('see fields as the processors do', async () => {
    const sql = [
      `b AND i = 5 AND l = 9007199254740993 AND f = 0.1::float AND d = 0.1`,
      `s = 'ä"\\' AND e = 'PAID' AND m = 12.34 AND n = 0.5`,
      `u = '8b1b6a1e-6f1f-4a0e-9d2b-00000000000a' AND day = DATE '2026-01-31'`,
      `t = TIMESTAMPTZ '2026-01-31 10:00:00+00' AND event_time = TIMESTAMPTZ '1970-01-01 00:00:00.001+00'`,
    ].join(' AND ');
    const fields = [
      field('b', 'boolean'),
      field('i', 'int'),
      field('l', 'long'),
      field('f', 'float'),
      field('d', 'double'),
      field('s', 'string'),
      field('e', { kind: 'enum', symbols: ['NEW', 'PAID'] }),
      field('m', decimal(12, 2)),
      field('n', decimal(12, 2)),
      field('u', 'uuid'),
      field('day', 'date'),
      field('t', 'timestamp-micros'),
    ];
    const line =
      '{"b":true,"i":5,"l":9007199254740993,"f":0.1,"d":0.1,"s":"ä\\"\\\\","e":"P\\u0041ID","m":"12.34","n":0.5,' +
      '"u":"8B1B6A1E-6F1F-4A0E-9D2B-00000000000A","day":"2026-01-31","t":"2026-01-31T12:00:00+02:00","event_time":1}';
    const from = source(fields, { split: [rule(sql)] });
    const plan = await planOf(from, [append('t', { holds: sql })]);
    const classifier = await Classifier.open(plan, engineOptions);
    const processor = await Processor.open(plan, { ...engineOptions, branch: 'stream' });
    opened.push(classifier, processor);
    const [result] = await classifier.classify([block([line])], noCeiling);
    expect(result && fates(result, 1)).toEqual([0]);
    const processed = await processor.process([
      { partition: 0, text: textOf([line]), runs: [{ start: 0n, count: 1 }] },
    ]);
    expect(processed.tables[0]?.text.toString()).toBe('0,0,1970-01-01 00:00:00.001+00,true,1,0\n');
  });

  it('decide the same wherever blocks begin and however partitions are mixed', async () => {
    const classifier = await classifierOf(
      [field('n', 'int')],
      [rule("late_by > interval '3 seconds'"), rule('n % 3 = 0'), rule('1 // (n - 5) = 1')],
    );
    const record = fc.record({
      time: fc.integer({ min: 0, max: 30_000 }),
      n: fc.oneof(fc.integer({ min: 0, max: 9 }), fc.constant('"dead"')),
    });
    await fc.assert(
      fc.asyncProperty(
        fc.array(record, { minLength: 1, maxLength: 40 }),
        fc.array(fc.nat({ max: 40 }), { maxLength: 5 }),
        fc.option(fc.integer({ min: 0, max: 40_000 })),
        async (records, cuts, before) => {
          const lines = records.map(
            ({ time, n }) => `{"n":${String(n)},"event_time":${String(now + time)}}`,
          );
          const highest = before === null ? null : microseconds(now + before);
          const ceiling = microseconds(now + 25_000);
          const [whole, beside] = await classifier.classify(
            [block(lines, { highest }), block(lines.toReversed(), { partition: 1 })],
            ceiling,
          );
          expect(beside?.partition).toBe(1);
          const parts: (number | string)[] = [];
          const rules = [0, 0, 0, 0];
          let last = highest;
          const bounds = [
            ...new Set([0, ...cuts.filter((cut) => cut < lines.length), lines.length]),
          ].toSorted((a, b) => a - b);
          for (let i = 1; i < bounds.length; i++) {
            const part = lines.slice(bounds[i - 1], bounds[i]);
            const [result] = await classifier.classify([block(part, { highest: last })], ceiling);
            last = result?.highest ?? null;
            parts.push(...(result ? fates(result, part.length) : []));
            result?.rules.forEach((count, k) => (rules[k] = (rules[k] ?? 0) + count));
          }
          expect(whole && fates(whole, lines.length)).toEqual(parts);
          expect(whole?.highest).toBe(last);
          expect(whole?.rules).toEqual(rules);
        },
      ),
      { numRuns: 25 },
    );
  });
});

describe('the queries', () => {
  it('parse each line once: no filter is pushed below the parse, which would double it', async () => {
    const rules = [rule("late_by > interval '1 minute' AND n > 3")];
    const plan = await planOf(source([field('n', 'int')], { split: rules }), [
      append('t', { n: 'n + 1' }, { where: expression('n > 5') }),
    ]);
    const engine = await Engine.open(engineOptions);
    for (const sql of [plan.classifySql({ guarded: false, nul: false }), plan.parseSql]) {
      const [row] = await engine.rows(`EXPLAIN (FORMAT json) ${sql}`, {
        text: Buffer.from('{}'),
        counts: '[1]',
        starts: '[0]',
        partitions: '[0]',
        highest: '[null]',
        ceiling: 0n,
      });
      const physical = String(row?.['explain_value']);
      expect(physical).not.toContain('"name": "FILTER"');
      // The parsed record is `r`.
      expect(physical.match(/"r"/g)).toHaveLength(1);
    }
    engine.close();
  });
});

describe('blocks', () => {
  it('that don’t have the lines that they say are refused', async () => {
    const classifier = await classifierOf([]);
    const line = '{"event_time":1}';
    for (const bad of [
      block([line, line], { count: 1 }),
      block([line], { count: 2 }),
      block([line], { text: Buffer.from(line) }),
      block([], { count: 1 }),
    ]) {
      await expect(classifier.classify([bad], noCeiling)).rejects.toMatchObject({
        code: 'BLOCK_MISMATCH',
      });
    }
    await expect(classifier.classify([], noCeiling)).resolves.toEqual([]);
  });

  it('come one step after the other', async () => {
    const classifier = await classifierOf([]);
    const step = classifier.classify([block(['{"event_time":1}'])], noCeiling);
    await expect(classifier.classify([block(['{}'])], noCeiling)).rejects.toMatchObject({
      code: 'BUSY',
    });
    await expect(step).resolves.toMatchObject([{ dead: 0 }]);
  });
});

describe('decimals that pass', () => {
  it('come out of the processor to the last digit', async () => {
    const types = [
      decimal(12, 2),
      decimal(18, 9),
      decimal(38, 10),
      decimal(20, 0),
      decimal(15, 15),
    ];
    const fields = types.map((type, i) => field(`d${String(i)}`, type, true));
    const plan = await planOf(source(fields), [
      append('t', Object.fromEntries(fields.map(({ name }) => [name, name]))),
    ]);
    const classifier = await Classifier.open(plan, engineOptions);
    const processor = await Processor.open(plan, { ...engineOptions, branch: 'stream' });
    opened.push(classifier, processor);
    const digits = fc.bigInt({ min: 0n, max: 10n ** 38n - 1n });
    const number = fc
      .tuple(digits, fc.nat({ max: 38 }), fc.nat({ max: 15 }), fc.boolean(), fc.boolean())
      .map(([value, length, scale, negative, quoted]) => {
        const text = String(value)
          .slice(0, Math.max(length, 1))
          .padStart(scale + 1, '0')
          .replace(/^0+(?=\d)/, '')
          .padStart(scale + 1, '0');
        const plain = `${negative ? '-' : ''}${text.slice(0, text.length - scale)}${scale > 0 ? `.${text.slice(-scale)}` : ''}`;
        return { plain, json: quoted ? `"${plain}"` : plain };
      });
    await fc.assert(
      fc.asyncProperty(fc.array(number, { minLength: 1, maxLength: 30 }), async (numbers) => {
        for (const [i, type] of types.entries()) {
          const lines = numbers.map(({ json }) => `{"d${String(i)}":${json},"event_time":1}`);
          const [result] = await classifier.classify([block(lines)], noCeiling);
          const alive = numbers.filter(
            (_, n) => result && fates(result, lines.length)[n] === 'default',
          );
          const text = textOf(alive.map(({ json }) => `{"d${String(i)}":${json},"event_time":1}`));
          const processed = await processor.process(
            alive.length === 0
              ? []
              : [{ partition: 0, text, runs: [{ start: 0n, count: alive.length }] }],
          );
          const rows = processed.tables[0]?.text.toString().split('\n').slice(0, -1) ?? [];
          const scale = type.kind === 'decimal' ? type.scale : 0;
          expect(rows.map((row) => scaled(row.split(',')[3 + i] ?? '', scale))).toEqual(
            alive.map(({ plain }) => scaled(plain, scale)),
          );
        }
      }),
      { numRuns: 10 },
    );
  });
});

/** A decimal as an integer of its scale; fails if it has more digits than that. */
function scaled(text: string, scale: number): bigint {
  const [whole = '', fraction = ''] = text.split('.');
  expect(fraction.slice(scale)).toMatch(/^0*$/);
  return (
    BigInt(whole.replace('-', '') + fraction.slice(0, scale).padEnd(scale, '0')) *
    (text.startsWith('-') ? -1n : 1n)
  );
}

it('explains a long record that is cut short in a string of escaped quotes as fast as any other', async () => {
  const classifier = await classifierOf([field('ts', { kind: 'timestamp-millis' })]);
  // By the square of its length, this would take hours.
  const cut = `{"ts":1,"text":"${String.raw`\"a`.repeat(250_000)}`;
  const [classified] = await classifier.classify([block([cut])], noCeiling);
  expect(classified && fates(classified, 1)).toEqual(['malformed']);
});

describe('a rule that diverts', () => {
  it('holds for the partitions that it is on for, and leaves the others to the rules behind it', async () => {
    const relief = { ...rule('f > 1'), name: 'relief', divert: true };
    const big = rule('f > 2', 'stream');
    const classifier = await classifierOf([field('f', 'int')], [relief, big]);
    const lines = [1, 2, 3].map((f) => `{"f": ${f}, "event_time": ${now}}`);
    const [off, on] = await classifier.classify(
      [block(lines), block(lines, { partition: 1, diverting: true })],
      noCeiling,
    );
    expect(off?.rules).toEqual([0, 1, 2]);
    expect(on?.rules).toEqual([2, 0, 1]);
    expect(on && fates(on, 3)).toEqual(['default', 0, 0]);
  });

  it('is not even computed while it is off', async () => {
    const failing = { ...rule('cast(s as int) > 0'), divert: true };
    const classifier = await classifierOf([field('s', 'string')], [failing]);
    const lines = [`{"s": "x", "event_time": ${now}}`, `{"s": "7", "event_time": ${now}}`];
    const [off] = await classifier.classify([block(lines)], noCeiling);
    const [on] = await classifier.classify([block(lines, { diverting: true })], noCeiling);
    expect([off?.rules, on?.rules]).toEqual([
      [0, 2],
      [1, 1],
    ]);
  });
});
