import { DefinitionError, type Problem, type Table } from '@anabranch/definition';
import fc from 'fast-check';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { allowedFunctions } from './allowed-functions.ts';
import { compile } from './compile.ts';
import {
  append,
  decimal,
  definition,
  expression,
  field,
  planOf,
  source,
  upsert,
  windowed,
} from './definition-fixture.ts';
import { Engine } from './engine.ts';
import { ComputeError } from './errors.ts';
import { planTable } from './table-plan.ts';

const fields = [
  field('price', decimal(12, 2)),
  field('quantity', 'int'),
  field('weight', 'double'),
  field('region', 'string', true),
  field('express', 'boolean'),
  field('day', 'date'),
  field('id', 'uuid'),
];

async function problemsOf(
  tables: readonly Table[],
  rules: readonly string[] = [],
): Promise<readonly Problem[]> {
  const split = rules.map((sql, i) => ({
    name: `rule_${String(i + 1)}`,
    when: expression(sql),
    to: 'batch' as const,
    divert: false,
  }));
  try {
    await compile(definition(source(fields, { split }), tables));
    return [];
  } catch (error) {
    if (error instanceof DefinitionError) {
      return error.problems;
    }
    throw error;
  }
}

let engine: Engine;

beforeAll(async () => {
  engine = await Engine.open({ memoryLimit: '128MB', threads: 1, errorsAsJson: true });
});

afterAll(() => {
  engine.close();
});

async function ofColumn(sql: string): Promise<readonly Problem[]> {
  const planned = await planTable(engine.connection, source(fields), append('t', { value: sql }));
  return 'problems' in planned ? planned.problems : [];
}

describe('an expression that can’t be used is refused with its own message', () => {
  it.each([
    ['', 'the expression is empty'],
    ['price +', 'syntax error at end of input'],
    ['price; select 1', 'expected one expression, not several statements'],
    ['price; drop table x', 'expected an expression, not a statement'],
    ['drop table x', 'expected an expression, not a statement'],
    ['select price', 'expected an expression, not a statement'],
    ['price * 1e999', 'a number is out of range'],
    ['price, quantity', 'expected one expression, not several separated by commas'],
    ['price from x', 'expected an expression, not a query'],
    ['price where true', 'expected an expression, not a query'],
    ['price limit 1', 'expected an expression, not a query'],
    ['distinct price', 'expected an expression, not a query'],
    ['1 union select 2', 'expected an expression, not a query'],
    ['price as total', "the expression can't be followed by a name (total)"],
    ['1) + (2', 'syntax error at or near ")"'],
    ['(select 1)', "subqueries can't be used here"],
    ['price in (select 1)', "subqueries can't be used here"],
    ['row_number() over ()', "window functions can't be used here"],
    ['*', "* can't be used here"],
    ['columns(*)', "* can't be used here"],
    ['price + $1', "parameters ($1, ?) can't be used here"],
    ['price + ?', "parameters ($1, ?) can't be used here"],
    ['#1', "positions (#1) can't be used here"],
    ['region collate nocase', 'COLLATE is not possible'],
    ['default', "default can't be used here"],
    ['pricee * 2', 'unknown column "pricee"'],
    ['"EU"', 'unknown column "EU"'],
    ['orders.price', '"orders.price" is not a column'],
    ['region.upper()', '"region.upper" is not a function'],
    ['uper(region)', 'unknown function "uper"'],
    ['sum(price)', "the aggregate sum can't be used here"],
    ['geomean(weight)', "the aggregate geomean can't be used here"],
    ['count(*) filter (express)', "the aggregate count_star can't be used here"],
    ['now()', "now can't be used: a record must give the same result"],
    ['current_date', "current_date can't be used: a record must give the same result"],
    ['random()', "random can't be used: a record must give the same result"],
    ['uuid()', "uuid can't be used"],
    ["current_setting('memory_limit')", "current_setting can't be used"],
    ["getenv('HOME')", "getenv can't be used"],
    ["getvariable('x')", "getvariable can't be used"],
    ['hash(region)', 'unknown function "hash"'],
    ["nextval('s')", "nextval can't be used"],
    ["read_text('/etc/passwd')", 'unknown function "read_text"'],
    ["error('x')", 'unknown function "error"'],
    ['repeat(region, 1000000000)', 'unknown function "repeat"'],
    ['range(1000000000000)', 'unknown function "range"'],
    ["lpad(region, quantity, ' ')", 'the length in lpad must be a number up to 1000'],
    ['age(event_time)', 'unknown function "age"'],
    ["headers['x']", 'unknown column "headers"'],
    ["date_trunc('dya', event_time)", 'it fails on every record'],
    [
      "CAST('x' AS date)",
      'it fails on every record: Could not convert|it fails on every record: invalid date',
    ],
    ['abs(region)', "No function matches the given name and argument types 'abs(VARCHAR)'"],
    ['price + express', 'No function matches|Cannot compare|Binder'],
    ['NULL', 'the value is always NULL'],
    ['[price]', "a value of type DECIMAL(12,2)[] can't be stored in Postgres"],
    ["interval '1 minute'", "a value of type INTERVAL can't be stored in Postgres"],
    ["time '12:00'", "a value of type TIME can't be stored in Postgres"],
    ['{a: 1}', "can't be stored in Postgres"],
    ['price\0', 'the expression has a NUL character'],
    ['price + '.repeat(5000), 'the expression has more than 20000 characters'],
  ])('%s', async (sql, message) => {
    const [problem, ...more] = await ofColumn(sql);
    expect(more).toEqual([]);
    const found = message.split('|').some((part) => problem?.message.includes(part));
    expect(found ? message : problem?.message).toBe(message);
    expect(problem?.message).toMatch(/^table t, column value: /);
  });

  it.each([
    ['price + quantiti', 8, 'quantiti', 'did you mean "quantity"?'],
    ["region = 'ä' and pricee > 1", 17, 'pricee', 'did you mean "price"?'],
    ['quantity = "EU"', 11, 'EU', "text is written in single quotes: 'EU'"],
    ['uper(region)', 0, 'uper', 'did you mean "upper"?'],
    ['quantity + ) 1', 11, ')', undefined],
  ])('and its place: %s', async (sql, offset, text, hint) => {
    const [problem] = await ofColumn(sql);
    expect(problem).toMatchObject({
      file: 'anabranch.yaml',
      line: 3,
      column: 11 + offset,
      text,
    });
    expect(problem?.hint).toBe(hint);
  });

  it('tells a field with the name of a keyword', async () => {
    try {
      await planOf(source([field('group', 'string')]), [append('t', { value: 'group' })]);
      expect.unreachable();
    } catch (error) {
      expect(String(error)).toContain('write the field in double quotes, "group"');
    }
  });

  it('counts lines of an expression that has several', async () => {
    const [problem] = await ofColumn('price\n  + nope');
    expect(problem).toMatchObject({ line: 4, column: 5, text: 'nope' });
  });

  it('collects the problems of all expressions', async () => {
    const problems = await problemsOf(
      [
        append('a', { x: 'nope', y: 'now()' }, { where: expression('price') }),
        windowed('b', ['region'], { total: 'sum(weight)', most: 'max(nope)' }),
      ],
      ['nope', 'late_by'],
    );
    expect(problems.map(({ message }) => message.slice(0, message.indexOf(':')))).toEqual([
      'source orders, split rule rule_1',
      'source orders, split rule rule_2',
      'table a, where',
      'table a, column x',
      'table a, column y',
      'table b, aggregate most',
      'table b, aggregate total',
    ]);
  });

  it.each([
    ['price > 1', 'price', 'expected true or false, got DECIMAL(12,2)'],
    ['', 'total > 1', 'it comes before the columns: instead of total write (price * 2)'],
    ['', 'sum(price) > 1', 'the aggregate sum'],
  ])('a filter: %s %s', async (_, where, message) => {
    const [problem] = await problemsOf([
      append('t', { total: 'price * 2' }, { where: expression(where) }),
    ]);
    expect(problem?.message).toContain(message);
  });

  it.each([
    [
      "headers['a'] = 'b' and late_by > interval '1 minute' and age < interval '1 day' and bytes > 10",
      null,
    ],
    ['headers', "headers can only be used with a header's name"],
    ['headers[region] is null', "headers can only be used with a header's name"],
    ["headers[''] is null", "headers can only be used with a header's name"],
    ["headers['a':'b'] is null", "headers can only be used with a header's name"],
    ['headers.bulk is null', '"headers.bulk" is not a column'],
    ["headers['a'] is null or headers['A'] is null", 'differ only in case'],
    ['late_by', 'expected true or false, got INTERVAL'],
    ['count(*) > 1', 'the aggregate count_star'],
  ])('a split rule: %s', async (sql, message) => {
    const problems = await problemsOf([], [sql]);
    if (message === null) {
      expect(problems).toEqual([]);
    } else {
      expect(problems[0]?.message).toContain(message);
    }
  });

  it('keys of more columns than Postgres can index', async () => {
    const names = Array.from({ length: 31 }, (_, i) => `k${String(i)}`);
    const of = Object.fromEntries(names.map((name) => [name, 'quantity']));
    const problems = await problemsOf([
      windowed('a', names, { n: 'count(*)' }, { of }),
      upsert('b', names, of),
      windowed('c', names.slice(1), { n: 'count(*)' }, { of }),
      upsert('d', names.slice(1), of),
    ]);
    expect(problems.map(({ message }) => message.slice(0, 45))).toEqual([
      'table a, group_by: at most 30 columns are pos',
      'table b, key: at most 30 columns are possible',
    ]);
  });

  it.each([
    ['sum(weight)', 'sum of DOUBLE depends on the order'],
    ['avg(weight)', 'avg of DOUBLE depends on the order'],
    ['sum(region)', 'sum needs numbers, not VARCHAR'],
    ['sum(CAST(quantity AS hugeint))', 'sum of HUGEINT could overflow'],
    ['sum(CAST(price AS decimal(29,2)))', 'sum of DECIMAL(29,2) could overflow'],
    ['min(express)', "min of BOOLEAN isn't possible"],
    ['max(id)', "max of UUID isn't possible"],
    ['min([quantity])', "min of INTEGER[] isn't possible"],
    ['sum(max(quantity))', 'the aggregate max'],
  ])('an aggregate that the split would change: %s', async (call, message) => {
    const [problem] = await problemsOf([windowed('t', [], { value: call })]);
    expect(problem?.message).toContain(message);
  });
});

describe('what fuzzing throws at it', () => {
  const words = fc.constantFrom(
    ...'price quantity region event_time ( ) [ ] { } , ; \' " -- /* */ $$ $1 ? * + - = -> ->> :: . .. # @ \\ select from where case when then else end cast as interval over partition lambda x : try unnest columns exclude 1 1e999 0x1 \u0000 \u{1F600} count(*) sum( upper( ATTACH COPY PRAGMA SET INSTALL'.split(
      ' ',
    ),
  );

  it('is either refused with problems or can be prepared, and never reaches a file', async () => {
    await fc.assert(
      fc.asyncProperty(
        fc.oneof(
          fc.string({ maxLength: 60, unit: 'binary' }),
          fc.array(words, { maxLength: 12 }).map((parts) => parts.join(' ')),
        ),
        async (sql) => {
          for (const problem of await ofColumn(sql)) {
            expect(problem.message).toMatch(/^table t, column value: ./s);
            expect(problem.message).not.toMatch(/Permission|IO Error|INTERNAL/);
          }
        },
      ),
      { numRuns: 150 },
    );
  });

  it.each([
    ['('.repeat(9000)],
    [`${'('.repeat(3000)}1${')'.repeat(3000)}`],
    [`${'not '.repeat(4000)}express`],
    [Array(4000).fill('1').join('+')],
    [`${'-'.repeat(1)}${' - '.repeat(5000)}1`],
    ['['.repeat(5000) + ']'.repeat(5000)],
    ['case when express then '.repeat(500) + '1' + ' end'.repeat(500)],
  ])('is not brought down by depth: %#', async (sql) => {
    for (const { message } of await ofColumn(sql)) {
      expect(message).toMatch(/^table t, column value: ./);
    }
  });

  it.each(["'/etc/passwd'", 'x', "COPY (SELECT 1) TO '/tmp/x'"])(
    'can’t open files or settings even where SQL gets through: %s',
    async (what) => {
      await expect(engine.run(`SELECT * FROM read_text(${what})`)).rejects.toThrow(ComputeError);
      await expect(engine.run("COPY (SELECT 1) TO '/tmp/anabranch-sandbox'")).rejects.toThrow(
        /Permission|disabled/,
      );
      await expect(engine.run('SET threads = 8')).rejects.toThrow('locked');
      await expect(engine.run("ATTACH '/tmp/anabranch-sandbox.db'")).rejects.toThrow(ComputeError);
      await expect(engine.run('INSTALL httpfs')).rejects.toThrow(ComputeError);
    },
  );
});

describe('allowed functions', () => {
  let functions: Map<string, { kinds: unknown[]; stabilities: unknown[] }>;

  beforeAll(async () => {
    const rows = await engine.rows(
      'SELECT lower(function_name) AS name, list(function_type) AS kinds, list(stability) AS stabilities FROM duckdb_functions() GROUP BY ALL',
    );
    functions = new Map(
      rows.map(({ name, kinds, stabilities }) => [
        String(name),
        {
          kinds: (kinds as { items: unknown[] }).items,
          stabilities: (stabilities as { items: unknown[] }).items,
        },
      ]),
    );
  });

  it('all exist, none depends on the clock, on chance or on the environment', () => {
    const unfit = [...allowedFunctions].filter((name) => {
      const { kinds = ['missing'], stabilities = [] } = functions.get(name) ?? {};
      return !(
        kinds.every((kind) => kind === 'scalar' || kind === 'macro') &&
        stabilities.every((stability) => stability === 'CONSISTENT' || stability === null)
      );
    });
    expect(unfit).toEqual([]);
  });
});

describe('the plan', () => {
  it('has the state, merges and results of a window table', async () => {
    const table = windowed(
      'per_minute',
      ['region'],
      {
        n: 'count(*)',
        known: 'count(region)',
        total: 'sum(total_price)',
        lowest: 'min(weight)',
        first_region: 'min(region)',
        average: 'avg(quantity)',
      },
      { of: { total_price: 'price * quantity' } },
    );
    const plan = (await planOf(source(fields), [table])).tables[0];
    expect(
      plan?.columns.map(({ name, postgresType, role, merge }) => [name, postgresType, role, merge]),
    ).toEqual([
      ['_window_start', 'timestamptz', 'window_start', null],
      ['region', 'text', 'key', null],
      ['_n_count', 'bigint', 'state', 'sum'],
      ['_known_count', 'bigint', 'state', 'sum'],
      ['_total_sum', 'numeric', 'state', 'sum'],
      ['_lowest_min', 'double precision', 'state', 'least'],
      ['_first_region_min', 'text', 'state', 'least'],
      ['_average_sum', 'numeric', 'state', 'sum'],
      ['_average_count', 'bigint', 'state', 'sum'],
      ['_stream_records', 'bigint', 'stream_records', 'sum'],
      ['_batch_records', 'bigint', 'batch_records', 'sum'],
    ]);
    expect(plan?.results.map(({ name, postgresType, sql }) => [name, postgresType, sql])).toEqual([
      ['region', 'text', 's."region"'],
      ['n', 'bigint', 's."_n_count"'],
      ['known', 'bigint', 's."_known_count"'],
      ['total', 'numeric', 's."_total_sum"'],
      ['lowest', 'double precision', 's."_lowest_min"'],
      ['first_region', 'text', 's."_first_region_min"'],
      ['average', 'numeric', 's."_average_sum" / nullif(s."_average_count", 0)'],
    ]);
  });

  it('knows what blocks must bring for the rules, and which fields no table needs', async () => {
    const rule = (sql: string) => ({
      name: sql,
      when: expression(sql),
      to: 'batch' as const,
      divert: false,
    });
    const split = [
      rule("headers['bulk'] = 'true'"),
      rule("age > interval '1 day'"),
      rule('bytes > 100'),
    ];
    const plan = await planOf(source(fields, { split }), [
      upsert('latest', ['region'], { region: 'region', day: 'day' }, { dropNulls: ['price'] }),
    ]);
    expect(plan).toMatchObject({
      usesLateBy: false,
      usesTimestamps: true,
      usesBytes: true,
      headerNames: ['bulk'],
    });
    expect(plan.fields.map(({ name }) => name)).toEqual(['price', 'region', 'day']);
  });

  it('lets a field win over what rules have beside the fields', async () => {
    const rule = {
      name: 'r',
      when: expression("age > 5 and bytes = 'x'"),
      to: 'batch' as const,
      divert: false,
    };
    const own = [field('age', 'int'), field('bytes', 'string')];
    const plan = await planOf(source(own, { split: [rule] }));
    expect(plan).toMatchObject({ usesTimestamps: false, usesBytes: false });
  });

  it.each([
    ['true', 'boolean'],
    ['quantity', 'integer'],
    ['quantity::smallint', 'smallint'],
    ['length(region)', 'bigint'],
    ['quantity::hugeint', 'numeric(39)'],
    ['price * quantity', 'numeric(18,2)'],
    ['weight::float', 'real'],
    ['weight', 'double precision'],
    ['region', 'text'],
    ["'x'::enum('x', 'y')", 'text'],
    ['day', 'date'],
    ['event_time', 'timestamptz'],
    ['event_time::timestamp', 'timestamp'],
    ['id', 'uuid'],
    ["json_extract_string(region, '$.a')", 'text'],
  ])('stores %s as %s', async (sql, postgresType) => {
    const plan = await planOf(source(fields), [append('t', { value: sql })]);
    expect(plan.tables[0]?.results).toMatchObject([{ name: 'value', postgresType }]);
  });
});
