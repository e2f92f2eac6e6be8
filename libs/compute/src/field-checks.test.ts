import type { Field } from '@anabranch/definition';
import { expect, it } from 'vitest';
import { Classifier } from './classifier.ts';
import { decimal, engineOptions, field, planOf, source, textOf } from './definition-fixture.ts';

/** What becomes of each value of the field: `ok`, or the code of the reason. */
async function verdicts(about: Field, values: readonly string[]): Promise<Record<string, string>> {
  const classifier = await Classifier.open(await planOf(source([about])), engineOptions);
  const records = values.map((value) =>
    value.startsWith('{') ? value : `{"event_time": 0, "${about.name}": ${value}}`,
  );
  const [classified] = await classifier.classify(
    [
      {
        partition: 0,
        text: textOf(records),
        count: records.length,
        highest: null,
        timestamps: null,
        headers: null,
      },
    ],
    10n ** 18n,
  );
  classifier.close();
  const codes = new Map(
    [...(classified?.exceptions.positions ?? [])].map((position, i) => [
      position,
      classified?.reasons[-1 - (classified.exceptions.verdicts[i] ?? 0)]?.code ?? '',
    ]),
  );
  return Object.fromEntries(values.map((value, i) => [value, codes.get(i) ?? 'ok']));
}

const all = (values: readonly string[], code: string): Record<string, string> =>
  Object.fromEntries(values.map((value) => [value, code]));

it('a time is ISO 8601 to the letter: what a lenient parser makes of the rest is another time', async () => {
  const right = [
    '"2025-03-01T06:00:00Z"',
    '"2025-03-01 06:00:00.5+02"',
    '"2025-03-01T06:00:00.123456789+05:30"',
    '"2025-03-01T06:00:00-0930"',
    '"2025-03-01T06:00:00"',
    '"2025-03-01"',
    '"2025-03-0\\u0031T06:00:00Z"',
  ];
  const wrong = [
    '" 025-03-01T06:00:00Z"',
    '"2025-03-1 06:00:00Z"',
    '"2025-03-01T6:00:00Z"',
    '"2025-03-01T06:0:00Z"',
    '"2025-03-01T06:00:0Z"',
    '"2025-03-01T06:00:0.5Z"',
    '"2025-03-01T06:00:00.Z"',
    '"2025-03-01T006:00:00Z"',
    '"2025-12-31T023:59:59Z"',
    '"2025-03-01\\t06:00:00Z"',
    '"2025-03-01T06:00:00Z "',
    '"2025-03-01T06:00:00 +02"',
    '"2025-03-01T06:00:00 UTC"',
    '"2025-03-01T06:00:00 Europe/Berlin"',
    '"2025-03-01T06:00:00+02:"',
    '"2025-03-01T06:00:00+92"',
    '"2025-03-01T25:00:00Z"',
    '"2025-02-29T06:00:00Z"',
    '"2025-03-0\\u0031T6:00:00Z"',
  ];
  const outside = ['"0001-01-01T00:00:00+01:00"', '"9999-12-31T23:59:59-01:00"'];
  expect(await verdicts(field('t', 'timestamp-micros'), [...right, ...wrong, ...outside])).toEqual({
    ...all(right, 'ok'),
    ...all(wrong, 'wrong-type'),
    ...all(outside, 'out-of-range'),
  });
});

it('a date has ten characters that all are part of it', async () => {
  const wrong = ['"2024-02-2,"', '"2024-02-2 "', '" 024-02-29"', '"2024-2-29 "', '"2024/02/29"'];
  expect(await verdicts(field('d', 'date'), ['"2024-02-29"', ...wrong])).toEqual({
    '"2024-02-29"': 'ok',
    ...all(wrong, 'wrong-type'),
  });
});

it('a decimal that a double turns into zero is refused, and zero is not', async () => {
  const zeros = ['0', '0.00', '-0.0', '0e5', `0.${'0'.repeat(400)}`];
  const vanished = ['1e-400', '-1.5E-330', `0.${'0'.repeat(400)}1`, `0.${'0'.repeat(250)}1e-99`];
  expect(await verdicts(field('n', decimal(12, 2)), [...zeros, ...vanished])).toEqual({
    ...all(zeros, 'ok'),
    ...all(vanished, 'inexact'),
  });
});

it('a long number refuses the decimal that it is, not one that has its name elsewhere', async () => {
  const inner = '{"event_time": 0, "x": {"n": 0.30000000000000004}, "n": 1.5}';
  const second = '{"event_time": 0, "n": 1.5, "n": 281524546444344.97}';
  const values = [inner, second, '1.0000000000000000', '281524546444344.97'];
  expect(await verdicts(field('n', decimal(18, 2)), values)).toEqual({
    [inner]: 'ok',
    [second]: 'ok',
    '1.0000000000000000': 'inexact',
    '281524546444344.97': 'inexact',
  });
});

it('a comma that follows nothing makes a record malformed, and one too much at the end does not', async () => {
  const lines = ['[,]', '{,}', '[1,,]', '[1,]', '{"a":1 , }'].map(
    (x) => `{"event_time": 0, "x": ${x}, "n": 1}`,
  );
  expect(Object.values(await verdicts(field('n', 'int'), lines))).toEqual([
    'malformed',
    'malformed',
    'malformed',
    'ok',
    'ok',
  ]);
});
