import { DefinitionError } from '@anabranch/definition';
import { DuckDBInstance, type DuckDBConnection } from '@duckdb/node-api';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { checkExpression } from './check-expression.ts';
import { compile } from './compile.ts';
import { append, definition, expression, field, source } from './definition-fixture.ts';
import { largest } from './growth.ts';

let connection: DuckDBConnection;

beforeAll(async () => {
  connection = await (await DuckDBInstance.create()).connect();
});

afterAll(() => {
  connection.closeSync();
});

/** How often the value may have a field of the record; or why the expression is refused. */
async function growthIn(sql: string): Promise<number | string> {
  const checked = await checkExpression(connection, expression(sql), {
    what: 'column c',
    names: ['a', 'b', 'list', 'at'],
    relation: () =>
      `(SELECT NULL::VARCHAR AS a, NULL::VARCHAR AS b, NULL::VARCHAR[] AS list, NULL::TIMESTAMP AS "at")`,
    headers: false,
    expects: 'value',
  });
  return 'problems' in checked ? (checked.problems[0]?.message ?? '') : largest(checked.growth);
}

describe('what a record can make of an expression', () => {
  it.each([
    ['a', 1],
    ["'x'", 0],
    ['concat(a, b)', 1],
    ["a || '-' || a", 2],
    ["replace(a, '&', '&amp;')", 5],
    ['replace(a, chr(13), chr(10))', 4],
    ["replace(a, 'abcdef', 'abc')", 1],
    ["regexp_replace(a, '[^0-9]', '', 'g')", 1],
    ["regexp_replace(a, '(.)', '<\\1>', 'g')", 5],
    ["regexp_replace(a, '(.)', '\\1\\1')", 3],
    ["CASE WHEN a = 'x' THEN concat(a, a) ELSE a END", 2],
    ["a LIKE 'x%' OR a LIKE 'y%' OR a LIKE 'z%'", 1],
    ["array_to_string(str_split(a, ','), '; ')", 3],
    ["list_transform(str_split(a, ','), x -> concat(x, x))", 2],
    ["list_filter(list, x -> x <> '')", 1],
    ['hex(concat(a, a))', 4],
  ])('%s: %d times its record at the most', async (sql, times) => {
    expect(await growthIn(sql)).toBe(times);
  });

  it.each([
    ['replace(a, b, a)', 'the replacement in replace must be a constant text'],
    ["regexp_replace(a, '.', b, 'g')", 'the replacement in regexp_replace must be a constant text'],
    ['array_to_string(list, a)', 'the separator in array_to_string must be a constant text'],
    ['list_transform(list, x -> concat(x, a))', 'a lambda may use nothing but its own parameters'],
    ['list_transform(list, x -> a)', 'a lambda may use nothing but its own parameters'],
    // One text, as often as it has characters.
    [
      "list_transform(list, x -> list_transform(str_split(x, ''), y -> x))",
      'a lambda may use nothing but its own parameters',
    ],
    [`replace(a, 'x', '${'y'.repeat(101)}')`, 'more than 100 times as long as its record'],
    [
      "replace(replace(replace(a, 'x', 'xxxxx'), 'x', 'xxxxx'), 'x', 'xxxxx')",
      'more than 100 times as long as its record',
    ],
    [
      `list_transform(list, x -> ${Array(101).fill('x').join(' || ')})`,
      'more than 100 times as long as its record',
    ],
  ])('%s is refused', async (sql, reason) => {
    expect(await growthIn(sql)).toContain(reason);
  });

  it('is counted through columns that are made of each other', async () => {
    const doubled = Object.fromEntries(
      Array.from({ length: 7 }, (_, i) => [
        `c${String(i + 1)}`,
        i === 0 ? 'concat(text, text)' : `concat(c${String(i)}, C${String(i)})`,
      ]),
    );
    const compiled = (columns: Readonly<Record<string, string>>) =>
      compile(definition(source([field('text', 'string')]), [append('t', columns)]));
    const { c7, ...six } = doubled;
    await expect(compiled(six)).resolves.toBeDefined();
    const error: unknown = await compiled({ ...six, c7: c7 ?? '' }).catch(
      (cause: unknown) => cause,
    );
    expect(error).toBeInstanceOf(DefinitionError);
    expect((error as DefinitionError).problems).toMatchObject([
      {
        message: expect.stringContaining(
          'column c7: the value could be more than 100 times',
        ) as string,
      },
    ]);
  });

  it.each([
    "replace(a, 'x', 'abc')",
    "replace(a, 'xx', 'abc')",
    "regexp_replace(a, '', '--', 'g')",
    "regexp_replace(a, '(x*)', '\\1\\0', 'g')",
    "regexp_replace(a, '(x*)', '\\1\\0\\1')",
    "array_to_string(str_split(a, ''), '::')",
    "array_to_string(list_transform(str_split(a, ''), x -> x || x), ',')",
    'hex(a)',
    'bin(a)',
    'url_encode(a)',
    "translate(a, 'x', '€')",
    'json_quote(a)',
    'upper(a)',
    'nfc_normalize(a)',
    'regexp_escape(a)',
  ])('%s never gives more than it is said to', async (sql) => {
    const times = Number(await growthIn(sql));
    expect(times).toBeGreaterThan(0);
    for (const text of ['x'.repeat(300), '€'.repeat(100), '%A'.repeat(150), '"\\'.repeat(150)]) {
      const reader = await connection.runAndReadAll(
        `SELECT strlen((${sql})::VARCHAR) FROM (SELECT $1::VARCHAR AS a, TIMESTAMP '2026-09-30 10:00:00' AS "at")`,
        [text],
      );
      const length = Number(reader.getRows()[0]?.[0]);
      // Constants come on top, some bytes each.
      expect(length).toBeLessThanOrEqual(times * Buffer.byteLength(text) + 20);
    }
  });
});
