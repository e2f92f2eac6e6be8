import { DuckDBInstance, type DuckDBConnection } from '@duckdb/node-api';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { checkExpression } from './check-expression.ts';
import { compile } from './compile.ts';
import { append, definition, expression, field, planOf, source } from './definition-fixture.ts';

let connection: DuckDBConnection;

beforeAll(async () => {
  connection = await (await DuckDBInstance.create()).connect();
});

afterAll(() => {
  connection.closeSync();
});

async function refusal(sql: string): Promise<string> {
  const checked = await checkExpression(connection, expression(sql), {
    what: 'column c',
    names: ['a', 'b', 'list'],
    relation: () => '(SELECT NULL::VARCHAR AS a, NULL::VARCHAR AS b, NULL::VARCHAR[] AS list)',
    headers: false,
    expects: 'value',
  });
  return 'problems' in checked ? (checked.problems[0]?.message ?? '') : '';
}

/** `f(f(f(x)))` */
const nested = (times: number, x: string, f: (x: string) => string): string =>
  times === 0 ? x : f(nested(times - 1, x, f));

describe('an expression that one record could make run for hours is refused', () => {
  it.each([
    ['levenshtein(a, b)', 'levenshtein'],
    ['jaro_similarity(a, a)', 'jaro_similarity'],
    ["a ILIKE '%x%y%'", '~~*'],
    ["a LIKE '%x_%y'", '~~'],
    ["a GLOB '*x*y*'", '~~~'],
    ['a LIKE b', '~~'],
    ["regexp_extract_all(a, 'a*?b|a')", 'regexp_extract_all'],
    ["regexp_replace(a, 'a(.*b)?', '', 'g')", 'regexp_replace'],
    ["length(regexp_replace(a, b, '', 'g'))", 'regexp_replace'],
  ])('%s', async (sql, by) => {
    expect(await refusal(sql)).toBe(`column c: ${by} can take far too long on one record`);
  });

  it('also where its texts are made in columns before, and not where these are short', async () => {
    const compiled = (columns: Readonly<Record<string, string>>) =>
      compile(definition(source([field('text', 'string')]), [append('t', columns)]));
    await expect(
      compiled({ up: 'upper(text)', again: 'up', v: 'levenshtein(up, again)' }),
    ).rejects.toThrow('column v: levenshtein can take far too long on one record');
    await expect(
      compiled({
        up: 'left(upper(text), 1000)',
        n: 'length(text)',
        v: 'levenshtein(up, n::VARCHAR)',
      }),
    ).resolves.toBeDefined();
    const rule = {
      name: 'r',
      when: expression('levenshtein(text, text) > 3'),
      to: 'batch' as const,
      divert: false,
    };
    await expect(planOf(source([field('text', 'string')], { split: [rule] }))).rejects.toThrow(
      'split rule r: levenshtein can take far too long on one record',
    );
  });

  it.each([
    "levenshtein(a, 'a constant')",
    'levenshtein(left(a, 10000), left(b, 10000))',
    "a LIKE '%x%y%z%'",
    "a ILIKE '%x%'",
    "a LIKE 'x_y%'",
    "regexp_matches(a, 'x.*y|z')",
    "regexp_replace(a, '[^0-9]+', '', 'g')",
    "regexp_extract_all(a, '[0-9]+')",
    "regexp_extract_all(left(a, 10000), 'x*y|x')",
    "list_transform(str_split(a, ','), x -> levenshtein(left(x, 100), 'y'))",
    Array.from({ length: 200 }, () => 'length(a)').join(' + '),
    `a IN (${Array.from({ length: 2000 }, (_, i) => `'${String(i)}'`).join(', ')})`,
  ])('and %s is not', async (sql) => {
    expect(await refusal(sql)).toBe('');
  });
});

describe('constants that would fill the memory, or take hours, while a service starts, are refused', () => {
  it.each([
    nested(40, "'a'", (x) => `hex(${x})`),
    nested(12, "'a'", (x) => `replace(${x}, 'a', 'aaaaaaaaaa')`),
    nested(12, "'a'", (x) => `regexp_replace(${x}, 'a', 'aaaaaaaaaa', 'g')`),
    nested(12, '1', (x) => `list_transform([1, 2, 3, 4, 5, 6, 7, 8, 9, 10], x -> ${x})`),
  ])('%s', async (sql) => {
    expect(await refusal(sql)).toMatch(/too long a value|nested too deeply|syntax error/);
  });

  it.each([
    ['functions', nested(900, 'length(a)', (x) => `abs(${x})`)],
    ['ANDs in functions', nested(40, 'a = b', (x) => `coalesce(${x} AND a = 'x', true)`)],
    ['ORs in CASE', nested(100, 'a = b', (x) => `CASE WHEN a = 'x' THEN 1 ELSE 2 END = 1 OR ${x}`)],
    ['NOTs', `${'NOT '.repeat(900)}a = b`],
    ['parentheses', `${'('.repeat(9900)}a${')'.repeat(9900)}`],
  ])(
    'and deeply nested %s neither overflow the stack nor double with each level',
    async (_, sql) => {
      expect(await refusal(sql)).toMatch(/^(column c: .*nested too deeply.*|)$/);
    },
  );
});
