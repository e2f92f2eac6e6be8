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
  ['stddev(a)', 'unknown aggregate "stddev"'],
])('%s is refused', (text, problem) => {
  expect(parseAggregate(text)).toMatchObject({ problem });
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
          expect(text.slice(at + sql.length).trim()).toBe(')');
        }
      },
    ),
  );
});
