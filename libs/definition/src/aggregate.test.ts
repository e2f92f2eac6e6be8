import fc from 'fast-check';
import { expect, it } from 'vitest';
import { aggregateFunctions, parseAggregate } from './aggregate.ts';

it.each([
  ['count(*)', 'count', null],
  [' COUNT ( * ) ', 'count', null],
  ['sum(a)', 'sum', 'a'],
  ['Sum( a + b )', 'sum', 'a + b'],
  ['max(greatest(a, (b)))', 'max', 'greatest(a, (b))'],
  ["min(a || ')' || 'it''s (')", 'min', "a || ')' || 'it''s ('"],
  ['avg("a)""(" * 2)', 'avg', '"a)""(" * 2'],
  ['max(list[1])', 'max', 'list[1]'],
  ["max({'a': 1, 'b': 2}.a)", 'max', "{'a': 1, 'b': 2}.a"],
  ['sum(a /* ) */ + b)', 'sum', 'a /* ) */ + b'],
  ['sum(a -- )\n + b)', 'sum', 'a -- )\n + b'],
  ['sum(distinct_amount)', 'sum', 'distinct_amount'],
  ['approx_quantile(greatest(a, b), 0.5)', 'approx_quantile', 'greatest(a, b)'],
  ['STDDEV_SAMP(a)', 'stddev_samp', 'a'],
])('%s', (text, name, sql) => {
  const parsed = parseAggregate(text);
  expect(parsed).toMatchObject({ function: name });
  const argument = 'argument' in parsed ? parsed.argument : undefined;
  expect(argument?.sql ?? null).toBe(sql);
  expect(argument ? text.slice(argument.at).startsWith(argument.sql) : true).toBe(true);
});

it.each([
  ['', 'expected an aggregate'],
  ['sum', 'expected an aggregate'],
  ['1 + 1', 'expected an aggregate'],
  ['a.sum(b)', 'expected an aggregate'],
  ['sum(a', 'a ")" is missing'],
  ["sum('a)", "a ' isn't closed"],
  ['sum(a[)', "a [ isn't closed"],
  ['sum(a /*)', "a /* isn't closed"],
  ['sum(a)) from x', '") from x" can\'t follow the aggregate'],
  ['sum(a) filter (where b)', '"filter (where b)" can\'t follow the aggregate'],
  ['sum(a, b)', 'sum takes one argument'],
  ['sum()', 'sum needs an argument'],
  ['sum(*)', 'only count takes *'],
  ['sum(DISTINCT a)', "distinct isn't possible: its result can't be merged from two branches"],
  ['sketch(a)', 'unknown aggregate "sketch"'],
  ['approx_median(a, 0.5)', 'approx_median takes one argument'],
  ['approx_quantile(*)', 'only count takes *'],
  [
    'approx_quantile(distinct a, 1)',
    "distinct isn't possible: its result can't be merged from two branches",
  ],
  ...[
    '',
    ', 1.01',
    ', -0.1',
    ', b',
    ', 0.5 + 0.1',
    ', 1e-1',
    ", '0.5'",
    ', 0.5, 0.6',
    ', .',
    ', 0.1234567890123456',
  ].map((rest) => [
    `approx_quantile(a${rest})`,
    'approx_quantile needs a rank from 0 to 1 as its second argument, as a number',
  ]),
  ...['', ', 1', ', []', ', [1, 1]', ', [2, 1]', ', [1,]', ', [b]', ', [1], [2]', ', [1, 2'].map(
    (rest) => [
      `histogram(a${rest})`,
      rest === ', [1, 2'
        ? "a [ isn't closed"
        : 'histogram needs bounds as its second argument: 1 to 50 numbers in ascending order, of at most 15 digits',
    ],
  ),
  ...['median(a)', 'quantile(a, 0.5)', 'percentile_cont(0.5)', 'MODE(a)', 'top_k(a, 3)'].map(
    (text) => [
      text,
      `${text.split('(')[0] ?? ''} isn't possible: its result can't be merged from two branches`,
    ],
  ),
])('%s is refused', (text, problem) => {
  expect(parseAggregate(text)).toMatchObject({ problem });
});

it.each([
  ['approx_quantile(a, 0.95)', ['0.95']],
  ['approx_quantile(a, 1)', ['1']],
  ['approx_quantile(a, .50)', ['0.5']],
  ['approx_quantile(a, 00.)', ['0']],
  ['histogram(a, [ -10.50, -0, +7, 1000 ])', ['-10.5', '0', '7', '1000']],
  ['histogram(a,[0.000000000000001])', ['0.000000000000001']],
  ['sum(a)', []],
  ['count(*)', []],
])('the parameters of %s are numbers, written in one way', (text, parameters) => {
  expect(parseAggregate(text)).toMatchObject({ parameters });
});

it.each([
  ['count(distinct a)', /approx_count_distinct\(x\).* to have it exact, group_by/],
  ['median(a)', /approx_median\(x\).* to have it exact, keep a row per record/],
  ['quantile(a, 0.9)', /approx_quantile\(x, 0.95\).* to have it exact, keep a row per record/],
  ['mode(a)', /count\(\*\) in a table with the value in its group_by/],
])('%s is refused with two ways out', (text, hint) => {
  expect(parseAggregate(text)).toMatchObject({ hint: expect.stringMatching(hint) as string });
});

it('finds the argument again in every call that it accepts, and never fails', () => {
  const part = fc.oneof(
    fc.constantFrom('(', ')', '[', ']', "'", '"', '--', '/*', '*/', ',', '\n', ' ', 'a', '*'),
    fc.string({ maxLength: 3 }),
  );
  const inside = fc.array(part, { maxLength: 12 }).map((parts) => parts.join(''));
  fc.assert(
    fc.property(
      fc.constantFrom(...aggregateFunctions, ''),
      inside,
      fc.string(),
      (name, argument, rest) => {
        const text = `${name}(${argument})${rest}`;
        const parsed = parseAggregate(text);
        if ('problem' in parsed) {
          expect(parsed.span[0]).toBeLessThanOrEqual(text.length);
        } else if (parsed.argument) {
          const { sql, at } = parsed.argument;
          expect(text.slice(at, at + sql.length)).toBe(sql);
          expect(text.slice(at + sql.length).trim()).toMatch(
            parsed.parameters.length === 0 ? /^\)$/ : /^,.*\)$/s,
          );
        }
      },
    ),
  );
});
