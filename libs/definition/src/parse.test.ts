import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { DefinitionError } from './errors.ts';
import type { Definition, Table } from './model.ts';
import { parseDefinition } from './parse.ts';
import { latencyGoal } from './source.ts';

const ordersSchema = JSON.stringify({
  type: 'record',
  name: 'Order',
  fields: [
    { name: 'id', type: 'string' },
    { name: 'region', type: 'string' },
    { name: 'orderId', type: 'long' },
    { name: 'column1', type: ['null', 'long'] },
    { name: 'column2', type: 'long' },
    { name: 'paid', type: ['null', { type: 'long', logicalType: 'timestamp-micros' }] },
    { name: 'event_time', type: { type: 'long', logicalType: 'timestamp-millis' } },
  ],
});

const valid = `schema: shop
sources:
  orders:
    topic: shop.orders
    format: json
    schema: orders.avsc
    event_time: event_time
    disorder: 10s
    max_skew: 2m
    idle_timeout: never
    max_record_bytes: 64KiB
    split:
      - { name: bulk, when: "headers['bulk'] = 'true'", to: batch }
      - { when: late_by > interval '1 minute', to: batch }
    default_branch: stream
    batch: { every: 10s, cron: "0 * * * *", backlog: 64MiB }
tables:
  clean_orders:
    description: All of them.
    source: orders
    drop_nulls: [column1, column2]
    where: column1 >= 0
    columns: { region: region, new_column: column1 + column2 }
    key: [region]
  per_minute:
    source: orders
    columns: { new_column: column1 + column2 }
    window: { tumbling: 1m, grace: 10s }
    group_by: [region]
    aggregates: { records: count(*), total: sum(new_column) }
`;

function parse(text: string, schema = ordersSchema): Definition {
  return parseDefinition({
    file: 'anabranch.yaml',
    text,
    readSchema: (path) => {
      if (path !== 'orders.avsc') {
        throw new Error('there is no such file');
      }
      return { file: path, text: schema };
    },
  });
}

function errorOf(text: string): DefinitionError {
  try {
    parse(text);
  } catch (error) {
    if (error instanceof DefinitionError) {
      return error;
    }
    throw error;
  }
  throw new Error('the definition was accepted');
}

/** Each problem as `line:column message — hint`. */
function problemsOf(text: string): string[] {
  return errorOf(text).problems.map(
    ({ line, column, message, hint }) =>
      `${String(line)}:${String(column)} ${message}${hint === undefined ? '' : ` — ${hint}`}`,
  );
}

function replaced(what: string, by: string): string {
  expect(valid).toContain(what);
  return valid.replace(what, () => by);
}

function tableOf(definition: Definition, name: string): Table {
  const table = definition.tables.find((candidate) => candidate.name === name);
  if (!table) {
    throw new Error(`no table ${name}`);
  }
  return table;
}

/** SQL of the columns of a table that has `columns` instead of its own. */
function columnsOf(columns: string): string[] {
  const own = 'columns: { region: region, new_column: column1 + column2 }\n    key: [region]';
  const table = tableOf(parse(replaced(own, columns)), 'clean_orders');
  return table.columns.map((column) => column.expression.sql);
}

describe('a valid definition', () => {
  it('says everything in the model', () => {
    const definition = parse(valid);
    expect(definition).toMatchObject({
      file: 'anabranch.yaml',
      schema: 'shop',
      sources: [
        {
          name: 'orders',
          topic: 'shop.orders',
          eventTime: 'event_time',
          disorder: 10_000,
          maxSkew: 120_000,
          idleTimeout: null,
          maxRecordBytes: 65_536,
          defaultBranch: 'stream',
          batch: { every: 10_000, cron: '0 * * * *', backlogBytes: 64 * 1024 ** 2 },
        },
      ],
    });
    expect(definition.sources[0]?.split).toEqual([
      {
        name: 'bulk',
        when: {
          sql: "headers['bulk'] = 'true'",
          at: { file: 'anabranch.yaml', line: 13, column: 30 },
        },
        to: 'batch',
        divert: false,
      },
      {
        name: 'rule_2',
        when: {
          sql: "late_by > interval '1 minute'",
          at: { file: 'anabranch.yaml', line: 14, column: 17 },
        },
        to: 'batch',
        divert: false,
      },
    ]);
    expect(tableOf(definition, 'clean_orders')).toMatchObject({
      kind: 'upsert',
      key: ['region'],
      at: { line: 18, column: 3 },
      description: 'All of them.',
      dropNulls: ['column1', 'column2'],
      where: { sql: 'column1 >= 0' },
      columns: [
        { name: 'region', expression: { sql: 'region' } },
        { name: 'new_column', expression: { sql: 'column1 + column2', at: { column: 44 } } },
      ],
    });
    expect(tableOf(definition, 'per_minute')).toMatchObject({
      kind: 'window',
      window: { size: 60_000, grace: 10_000 },
      groupBy: ['region'],
      aggregates: [
        { name: 'records', function: 'count', argument: null },
        {
          name: 'total',
          function: 'sum',
          argument: { sql: 'new_column', at: { line: 30, column: 49 } },
        },
      ],
    });
  });

  it('has defaults for what it leaves out', () => {
    const definition = parse(`
sources:
  orders: { schema: orders.avsc, event_time: event_time }
tables:
  rows: { source: orders, columns: [id, region] }
`);
    expect(definition).toMatchObject({
      schema: 'public',
      sources: [
        {
          topic: 'orders',
          format: 'json',
          disorder: 5000,
          maxSkew: 60_000,
          idleTimeout: 10_000,
          maxRecordBytes: 1024 ** 2,
          split: [],
          defaultBranch: 'stream',
          batch: { every: 60_000, cron: null, backlogBytes: null },
        },
      ],
      tables: [{ kind: 'append', description: null, dropNulls: [], where: null }],
    });
  });

  it('has goals: a latency of a table, a freshness of the batch branch, and rules that divert by them', () => {
    const { sources, tables } = parse(
      replaced(
        'batch: { every: 10s, cron: "0 * * * *", backlog: 64MiB }',
        'batch: { fresh_within: 15m }',
      )
        .replace('to: batch }\n    default', 'to: divert }\n    default')
        .replace('    key: [region]', '    key: [region]\n    latency: 500ms'),
    );
    expect(sources[0]?.batch).toEqual({
      every: null,
      cron: null,
      backlogBytes: null,
      freshWithin: 900_000,
    });
    expect(sources[0]?.split.map(({ to, divert }) => [to, divert])).toEqual([
      ['batch', false],
      ['batch', true],
    ]);
    expect(tables.map(({ latency }) => latency)).toEqual([500, null]);
    expect(latencyGoal(tables)).toBe(500);
    expect(latencyGoal([])).toBeNull();
    // Nothing that decides a table's rows, but where its records go.
    const plain = parse(valid);
    expect(tables.map(({ hash }) => hash)).toEqual(plain.tables.map(({ hash }) => hash));
    expect(sources[0]?.hash).not.toBe(plain.sources[0]?.hash);
  });

  it('needs no interval beside a cron pattern or a backlog', () => {
    const { sources } = parse(replaced('every: 10s, cron: "0 * * * *", ', ''));
    expect(sources[0]?.batch).toEqual({
      every: null,
      cron: null,
      backlogBytes: 64 * 1024 ** 2,
      freshWithin: null,
    });
  });

  it('takes a name with nothing behind it, or in a list, for the field, keyword or not', () => {
    expect(columnsOf('columns: { region: , id: }')).toEqual(['"region"', '"id"']);
    expect(columnsOf('columns: [id, region]')).toEqual(['"id"', '"region"']);
  });

  it('takes numbers and booleans as they are written', () => {
    const { columns } = tableOf(
      parse(replaced('{ region: region,', '{ region: region, a: 1.10, b: true, c: 0x10,')),
      'clean_orders',
    );
    expect(columns.slice(1, 4).map((column) => column.expression.sql)).toEqual([
      '1.10',
      'true',
      '0x10',
    ]);
  });

  it.each([
    ['plain', 'column1 >= 0', 22, 12],
    ['in double quotes', '"column1 >= 0"', 22, 13],
    ['in single quotes', "'column1 >= 0'", 22, 13],
    ['literal', '|\n\n      column1 >= 0\n', 24, 7],
    ['folded', '>-\n      column1 >= 0', 23, 7],
    ['on the next line', '\n      column1 >= 0', 23, 7],
  ])('knows where an expression begins that is %s', (_style, written, line, column) => {
    const { where } = tableOf(parse(replaced('column1 >= 0', written)), 'clean_orders');
    expect(where).toEqual({ sql: 'column1 >= 0', at: { file: 'anabranch.yaml', line, column } });
  });

  it('may use anchors', () => {
    const { tables } = parse(
      replaced('drop_nulls: [column1, column2]', 'drop_nulls: &nulls [column1]').replace(
        'columns: { new_column: column1 + column2 }',
        'columns: { new_column: column1 + column2 }\n    drop_nulls: *nulls',
      ),
    );
    expect(tables.map((table) => table.dropNulls)).toEqual([['column1'], ['column1']]);
  });

  it('may begin with a byte order mark and have Windows line ends', () => {
    const { tables } = parse(`\ufeff${valid.replaceAll('\n', '\r\n')}`);
    expect(tables[0]?.at).toEqual({ file: 'anabranch.yaml', line: 18, column: 3 });
  });
});

function hashes(text: string, schema?: string): string[] {
  const { sources, tables } = parse(text, schema);
  return [...sources, ...tables].map(({ hash }) => hash);
}

describe('a hash', () => {
  const [source, upsert, window] = hashes(valid);

  it("stays the same when only the text's form, a description or the cadence changes", () => {
    const other = replaced('description: All of them.', 'description: Some of them.')
      .replace('every: 10s', 'every: 1h')
      .replace('where: column1 >= 0', '\n    where:    "column1 >= 0" # positive');
    expect(hashes(other)).toEqual([source, upsert, window]);
  });

  it.each([
    ['disorder: 10s', 'disorder: 11s'],
    ["= 'true'", "= 'yes'"],
    ['to: batch', 'to: stream'],
    ['default_branch: stream', 'default_branch: batch'],
    ['topic: shop.orders', 'topic: other'],
  ])('of a source changes with %s', (what, by) => {
    expect(hashes(replaced(what, by))[0]).not.toBe(source);
  });

  it.each([
    ['column1 >= 0', 'column1 > 0', 1],
    ['drop_nulls: [column1, column2]', 'drop_nulls: [column1]', 1],
    ['new_column: column1 + column2 }\n    key', 'new_column: column1 - column2 }\n    key', 1],
    ['key: [region]', 'key: [new_column]', 1],
    ['tumbling: 1m', 'tumbling: 2m', 2],
    ['group_by: [region]', 'group_by: [id]', 2],
    ['sum(new_column)', 'max(new_column)', 2],
    ['sum(new_column)', '"approx_quantile(new_column, 0.5)"', 2],
  ])("of a table changes with %s, and no other table's does", (what, by, index) => {
    const changed = hashes(replaced(what, by));
    const expected = [source, upsert, window].map((hash, i) => (i === index ? changed[i] : hash));
    expect(changed).toEqual(expected);
    expect(changed[index]).not.toBe([source, upsert, window][index]);
  });

  it('changes with a parameter of an aggregate, but not with how it is written', () => {
    const [half, same, other] = ['0.5', '.50', '0.95'].map(
      (rank) => hashes(replaced('sum(new_column)', `"approx_quantile(new_column, ${rank})"`))[2],
    );
    expect(same).toBe(half);
    expect(other).not.toBe(half);
  });

  it('changes with the type of a field', () => {
    const other = hashes(valid, ordersSchema.replace('"id","type":"string"', '"id","type":"int"'));
    expect(other.filter((hash, i) => hash === [source, upsert, window][i])).toEqual([]);
  });
});

describe('what is wrong is said at its place', () => {
  const names = 'lower-case letters, digits and _, a letter first, at most 48';
  const windowColumns = '{ new_column: column1 + column2 }\n    window';
  const fields = 'id, region, orderId, column1, column2, paid, event_time';
  it.each<[what: string, by: string, problems: string[]]>([
    [
      'to: batch }\n    default',
      'to: divert }\n    default',
      [
        '14:52 a rule that diverts needs a latency goal, and no table of this source has one — add latency: 1s to a table',
      ],
    ],
    [
      '    key: [region]',
      '    key: [region]\n    latency: 5ms',
      ['25:14 "5ms" is out of bounds — possible: 10ms to 1h'],
    ],
    // Keys and kinds of values
    ['topic:', 'topc:', ['4:5 unknown key "topc" — did you mean "topic"?']],
    [
      'event_time: event_time',
      'eventTime: event_time',
      ['3:3 "event_time" is missing', '7:5 unknown key "eventTime" — did you mean "event_time"?'],
    ],
    ['grace:', 'xyz:', ['28:29 unknown key "xyz" — known here: tumbling, grace']],
    ['where:', 'filter:', ['22:5 unknown key "filter" — did you mean "where"?']],
    ['{ name: bulk', '{ nam: bulk', ['13:11 unknown key "nam" — did you mean "name"?']],
    ['schema: shop\n', 'tabels: 1\n', ['1:1 unknown key "tabels" — did you mean "tables"?']],
    [
      'topic: shop.orders',
      'topic: 5',
      ['4:12 expected text, found the number 5 — put it in quotes'],
    ],
    ['topic: shop.orders', 'topic:', ['4:5 expected text, found nothing']],
    ['topic: shop.orders', 'topic: [a]', ['4:12 expected text, found a list']],
    [
      'key: [region]',
      'key: region',
      ['24:10 expected a list, found "region" — did you mean [region]?'],
    ],
    ['key: [region]', 'key: []', ['24:10 must not be empty']],
    ['batch: {', 'batch: 1m # {', ['16:12 expected a map (key: value), found "1m"']],
    ['format: json', 'format: avro', ['5:13 "avro" isn\'t possible here — possible: json']],
    ['to: batch', 'to: bach', ['13:61 "bach" isn\'t possible here — did you mean "batch"?']],
    ['to: batch', 'to: 1', ['13:61 expected "stream" or "batch" or "divert", found the number 1']],
    ['where: column1 >= 0', 'where: [a]', ['22:12 expected an SQL expression, found a list']],
    ['where: column1 >= 0', 'where: " "', ['22:12 an SQL expression is missing']],
    ['where: column1 >= 0', 'where:', ['22:5 expected an SQL expression, found nothing']],
    [
      'columns: { region: region,',
      'columns: { region: [],',
      ['23:24 expected an SQL expression, found a list'],
    ],
    [
      'columns: { region: region, new_column: column1 + column2 }',
      'columns: 1',
      ['23:14 expected a map (name: expression) or a list of field names, found the number 1'],
    ],
    // Names
    [
      '  orders:\n',
      '  Orders:\n',
      [
        `3:3 "Orders" can't be a name — such as "orders": ${names}`,
        '20:13 there is no source "orders" — did you mean "Orders"?',
        '26:13 there is no source "orders" — did you mean "Orders"?',
      ],
    ],
    [
      'per_minute:',
      'perMinute:',
      [`25:3 "perMinute" can't be a name — such as "per_minute": ${names}`],
    ],
    [
      'new_column: column1 + column2 }\n    key',
      '_new: 1 }\n    key',
      [`23:32 "_new" can't be a name — such as "new": ${names}`],
    ],
    ['per_minute:', '1:', ['25:3 a key must be text — put it in quotes']],
    [
      'name: bulk',
      'name: default',
      ['13:17 the name "default" is for the records for which no rule holds'],
    ],
    ['name: bulk', 'name: rule_2', ['14:9 a rule before has the name "rule_2" already']],
    [
      'schema: shop',
      'schema: pg_temp',
      ['1:9 the schema "pg_temp" belongs to Postgres — choose another for the views'],
    ],
    [
      'schema: shop',
      'schema: anabranch',
      ['1:9 the schema "anabranch" belongs to Anabranch itself — choose another for the views'],
    ],
    [
      '{ region: region,',
      '{ region: region, revision: 1,',
      [
        '23:32 every table has a column "revision" of itself — choose another name, such as "own_revision"',
      ],
    ],
    [
      'records: count(*)',
      'window_start: count(*)',
      [
        '30:19 every table has a column "window_start" of itself — choose another name, such as "my_window_start"',
      ],
    ],
    ['records: count(*)', 'region: count(*)', ['30:19 group_by has a column "region" already']],
    [
      'group_by: [region]',
      'group_by: [orderId]',
      [
        '29:16 "orderId" can\'t be a name of a column — define one, as in columns: { order_id: orderId }',
      ],
    ],
    // Topics
    [
      'shop.orders',
      'a b',
      ['4:12 "a b" can\'t be a topic — Kafka\'s rule: letters, digits and . _ -'],
    ],
    [
      'shop.orders',
      '..',
      ['4:12 ".." can\'t be a topic — Kafka\'s rule: letters, digits and . _ -'],
    ],
    [
      'shop.orders',
      'a.dead',
      ["4:12 a source's topic can't end in \".dead\": Anabranch's own topics do"],
    ],
    ['shop.orders', '__consumer_offsets', ['4:12 "__consumer_offsets" is a topic of Kafka\'s own']],
    ['shop.orders', 'x'.repeat(201), ["4:12 a topic's name may have at most 200 characters"]],
    [
      'tables:',
      '  other: { topic: shop.orders, schema: orders.avsc, event_time: event_time }\ntables:',
      [
        '17:19 the topic "shop.orders" belongs to the source "orders" already — let its tables use "orders"',
      ],
    ],
    // Quantities
    [
      'disorder: 10s',
      'disorder: 10 seconds',
      ['8:15 "10 seconds" isn\'t a duration — did you mean "10s"?'],
    ],
    [
      'disorder: 10s',
      'disorder: 10',
      ['8:15 expected text, found the number 10 — a duration has a unit: 500ms, 5s, 10m, 2h, 1d'],
    ],
    [
      'disorder: 10s',
      'disorder: "10"',
      ['8:15 "10" isn\'t a duration — a unit is missing, as in "10s"'],
    ],
    [
      'disorder: 10s',
      'disorder: soon',
      ['8:15 "soon" isn\'t a duration — write it like 500ms, 5s, 10m, 2h or 1d'],
    ],
    ['disorder: 10s', 'disorder: 0.5ms', ['8:15 "0.5ms" isn\'t a whole number of 1ms']],
    ['disorder: 10s', 'disorder: 8d', ['8:15 "8d" is out of bounds — possible: 0s to 7d']],
    [
      'idle_timeout: never',
      'idle_timeout: nie',
      ['10:19 "nie" isn\'t a duration — write it like 500ms, 5s, 10m, 2h or 1d'],
    ],
    ['64KiB', '64kb', ['11:23 "64kb" isn\'t a size — did you mean "64KiB"?']],
    ['64KiB', '1GiB', ['11:23 "1GiB" is out of bounds — possible: 1KiB to 16MiB']],
    ['tumbling: 1m', 'tumbling: 0s', ['28:25 "0s" is out of bounds — possible: 1s to 366d']],
    [
      '"0 * * * *"',
      '"0 *"',
      [
        '16:32 "0 *" isn\'t a cron pattern — it has five fields (minute hour day month weekday), or six with seconds in front',
      ],
    ],
    [
      '"0 * * * *"',
      '"61 * * * *"',
      ['16:32 "61 * * * *" isn\'t a cron pattern: Invalid value for minute: 61'],
    ],
    ['"0 * * * *"', '"0 0 30 2 *"', ['16:32 the time "0 0 30 2 *" never comes']],
    // The schema and its fields
    [
      'orders.avsc',
      'order.avsc',
      ['6:13 can\'t read the schema "order.avsc": there is no such file'],
    ],
    [
      'event_time: event_time',
      'event_time: evnt_time',
      ['7:17 there is no field "evnt_time" — did you mean "event_time"?'],
    ],
    [
      'event_time: event_time',
      'event_time: region',
      [
        '7:17 the event time must be a timestamp-millis or timestamp-micros that is never null; "region" is of type string — possible: event_time',
      ],
    ],
    [
      'event_time: event_time',
      'event_time: paid',
      [
        '7:17 the event time must be a timestamp-millis or timestamp-micros that is never null; "paid" may be null — possible: event_time',
      ],
    ],
    [
      '[column1, column2]',
      '[colunm1, column2]',
      ['21:18 there is no field "colunm1" — did you mean "column1"?'],
    ],
    ['[column1, column2]', '[column2, column2]', ['21:27 "column2" is there twice']],
    [
      'source: orders',
      'source: odrers',
      ['20:13 there is no source "odrers" — did you mean "orders"?'],
    ],
    [
      'columns: { region: region,',
      'columns: { regio: ,',
      [
        '23:16 there is no field "regio" — did you mean "region"?',
        '24:11 there is no column "region" — did you mean "regio"?',
      ],
    ],
    [
      'columns: { region: region, new_column: column1 + column2 }',
      'columns: [region, xyz]',
      [`23:23 there is no field "xyz" — there are: ${fields}`],
    ],
    // Kinds of tables
    [
      'key: [region]',
      'key: [column1]',
      ['24:11 there is no column "column1" — there are: region, new_column'],
    ],
    [
      'group_by: [region]',
      'group_by: [regoin]',
      ['29:16 there is no column or field "regoin" — did you mean "region"?'],
    ],
    [
      'group_by: [region]',
      'key: [new_column]',
      [
        '29:5 key and window exclude each other: a window table has a row per window and group — use group_by instead of key',
      ],
    ],
    [
      '    aggregates: { records: count(*), total: sum(new_column) }\n',
      '',
      ['28:5 a window needs aggregates — such as { records: count(*) }'],
    ],
    [
      'key: [region]',
      'group_by: [region]',
      ['24:5 group_by needs a window — add window: { tumbling: 1m }'],
    ],
    [
      'key: [region]',
      'aggregates: { records: count(*) }',
      ['24:5 aggregates needs a window — add window: { tumbling: 1m }'],
    ],
    [
      '    columns: { region: region, new_column: column1 + column2 }\n    key: [region]\n',
      '',
      ['18:3 a table without a window needs columns — list the fields that it should have'],
    ],
    // Aggregates, at the part that is wrong
    ['sum(new_column)', 'avergae(x)', ['30:45 unknown aggregate "avergae" — did you mean "avg"?']],
    [
      'sum(new_column)',
      'median(x)',
      [
        "30:45 median isn't possible: its result can't be merged from two branches — approx_median(x) is at most 1 % off; to have it exact, keep a row per record in a table without a window, and ask for percentile_cont in a query",
      ],
    ],
    ['sum(new_column)', 'new_column', ['30:45 expected an aggregate — such as sum(new_column)']],
    [
      'sum(new_column)',
      'sum(a) + 1',
      [
        '30:52 "+ 1" can\'t follow the aggregate — compute before, in a column, or after, in a query',
      ],
    ],
    ['sum(new_column)', '"sum((a)"', ['30:49 a ")" is missing']],
    ['sum(new_column)', '"sum(a, b)"', ['30:51 sum takes one argument']],
    ['sum(new_column)', 'sum(*)', ['30:49 only count takes * — such as sum(column)']],
    ['sum(new_column)', 'count()', ['30:45 count needs an argument — write count(*)']],
    [
      'sum(new_column)',
      'count(distinct id)',
      [
        "30:51 distinct isn't possible: its result can't be merged from two branches — approx_count_distinct(x) has a standard error of 1.6 %; to have it exact, group_by the value, and count the rows in a query",
      ],
    ],
    ['sum(new_column)', '5', ['30:45 expected text, found the number 5 — put it in quotes']],
    // YAML itself
    [
      'key: [region]',
      'key: [region',
      ['25:3 flow sequence in block collection must be sufficiently indented and end with a ]'],
    ],
    ['    source', '\tsource', ["20:1 a tab can't indent YAML — use spaces"]],
    ['where: column1 >= 0', 'source: orders', ['22:5 the key "source" is in line 20 already']],
    ['tables:', '---\ntables:', ['17:1 a second document begins here — only one per file']],
    ['schema: shop', '? [a]\n: 1', ['1:3 a key must be text — put it in quotes']],
    ['schema: shop', '__proto__: 1', ['1:1 "__proto__" can\'t be a key']],
    [
      'schema: shop',
      'schema: !!binary abc',
      ['1:18 the tag "tag:yaml.org,2002:binary" isn\'t supported — leave it out'],
    ],
    ['schema: shop', 'schema: *x', ['1:9 there is no anchor "&x" in front of this']],
    ['All of them.', '"\\0"', ['19:18 has a character that no text column can hold']],
    [windowColumns, `&x { a: *x }\n    window`, ['27:22 there is no anchor "&x" in front of this']],
  ])('%s → %s', (what, by, problems) => {
    expect(problemsOf(replaced(what, by))).toEqual(problems);
  });

  it.each([
    ['an empty file', '', ['1:1 expected a map (key: value), found nothing']],
    ['only a comment', '# later', ['1:1 expected a map (key: value), found nothing']],
    ['a list', '- a', ['1:1 expected a map (key: value), found a list']],
    [
      'no tables',
      'sources: { a: { schema: orders.avsc, event_time: event_time } }',
      ['1:1 "tables" is missing'],
    ],
    [
      'nothing in it',
      'sources: {}\ntables: {}',
      ['1:10 at least one source is needed', '2:9 at least one table is needed'],
    ],
  ])('%s', (_what, text, problems) => {
    expect(problemsOf(text)).toEqual(problems);
  });

  it('refuses a rule with a word that is a field and a property of the record', () => {
    const schema = ordersSchema.replace('"id"', '"Age"');
    expect(() => parse(replaced("late_by > interval '1 minute'", 'age > 1'), schema)).toThrow(
      '14:17: "Age" is a field of this source, but also what a rule calls',
    );
    expect(parse(valid, schema).sources).toHaveLength(1);
  });

  it('finds all problems at once, in the order of the file', () => {
    const text = replaced('disorder: 10s', 'disorder: 1y')
      .replace('to: batch', 'to: nowhere')
      .replace('key: [region]', 'key: [rgion]')
      .replace('sum(new', 'smu(new');
    expect(errorOf(text).problems.map(({ line }) => line)).toEqual([8, 13, 24, 30]);
  });

  it("doesn't blame fields on a table whose source is broken", () => {
    const text = replaced('event_time: event_time', 'event_time: 1');
    expect(problemsOf(text)).toEqual(['7:17 expected text, found the number 1 — put it in quotes']);
  });

  it('finds problems in the schema at their place there', () => {
    const schema = `{"type":"record","name":"Order","fields":[\n  {"name":"a","type":"strnig"}]}`;
    expect(() => parse(valid, schema)).toThrow(
      'orders.avsc:2:22: field "a": unknown type "strnig" — did you mean "string"?',
    );
  });

  it('shows the line and a caret', () => {
    expect(errorOf(replaced('columns: { region', 'colums: { region')).message).toBe(
      [
        'anabranch.yaml:23:5: unknown key "colums" — did you mean "columns"?',
        '  23 |     colums: { region: region, new_column: column1 + column2 }',
        '     |     ^^^^^^',
      ].join('\n'),
    );
  });

  it('shows a window of a long line, and no control characters', () => {
    const { message } = errorOf(`{ sources: { ${'x'.repeat(5000)}: 1 }, "\\e[2J": "\u0085" }`);
    expect(Math.max(...message.split('\n').map((line) => line.length))).toBeLessThan(250);
    // eslint-disable-next-line no-control-regex
    expect(message).not.toMatch(/[\u0000-\u0009\u000b-\u001f\u007f-\u009f]/);
  });
});

describe('hostile text', () => {
  it.each([
    ['too long', '#'.repeat(300_000), "is longer than 256 KiB, so it can't be a definition"],
    ['deep lists', '['.repeat(100_000), 'nested too deeply'],
    ['deep maps', '{a: '.repeat(60_000), 'nested too deeply'],
    [
      'an alias bomb',
      Array.from({ length: 30 }, (_, i) => `a${i}: &a${i} [${`*a${i - 1},`.repeat(10)}]`)
        .join('\n')
        .replace(/\*a-1,/g, 'x,'),
      'has more than 20000 values',
    ],
    [
      'very many keys',
      Array.from({ length: 25_000 }, (_, i) => `a${i}: 1`).join('\n'),
      'has more than 20000 values',
    ],
  ])('%s is refused', (_what, text, message) => {
    expect(errorOf(text).problems.map((problem) => problem.message)).toContain(message);
  });

  it('is refused or read, and never fails otherwise', () => {
    const lines = valid.split('\n');
    const edit = fc.record({
      at: fc.nat(valid.length),
      remove: fc.nat(20),
      insert: fc.oneof(
        fc.string({ unit: 'binary', maxLength: 8 }),
        fc.constantFrom(
          ...lines,
          '\n',
          '\t',
          ': ',
          '- ',
          '[',
          '{',
          '}',
          ']',
          '&a ',
          '*a',
          '"',
          "'",
        ),
        fc.constantFrom(
          'null',
          '~',
          '1e999',
          '.inf',
          '.nan',
          '|',
          '>',
          '!!map',
          '<<: ',
          '%YAML 1.1\n',
        ),
      ),
    });
    fc.assert(
      fc.property(fc.array(edit, { minLength: 1, maxLength: 4 }), (edits) => {
        let text = valid;
        for (const { at, remove, insert } of edits) {
          text = text.slice(0, at) + insert + text.slice(at + remove);
        }
        try {
          expect(parse(text).tables.length).toBeGreaterThan(0);
        } catch (error) {
          expect(error).toBeInstanceOf(DefinitionError);
          const { problems } = error as DefinitionError;
          expect(problems.length).toBeGreaterThan(0);
          const height = text.split('\n').length;
          for (const { line, column, file, message } of problems) {
            expect([file, line >= 1 && line <= height, column >= 1]).toEqual([
              'anabranch.yaml',
              true,
              true,
            ]);
            expect(message).not.toMatch(/undefined|\[object|NaN/);
          }
        }
      }),
      { numRuns: 400 },
    );
  });

  it('of any kind is refused', () => {
    fc.assert(
      fc.property(fc.string({ unit: 'binary', maxLength: 200 }), (text) => {
        expect(() => parse(text)).toThrow(DefinitionError);
      }),
      { numRuns: 400 },
    );
  });

  it('of any shape is refused', () => {
    const key = fc.constantFrom('sources', 'tables', 'orders', 'schema', 'columns', 'constructor');
    const { value } = fc.letrec<{ value: unknown }>((tie) => ({
      value: fc.oneof(
        { depthSize: 'small' },
        fc.oneof(fc.constantFrom(null, true, 1, 'x', 'orders.avsc', 'toString'), fc.double()),
        fc.array(tie('value'), { maxLength: 3 }),
        fc.dictionary(key, tie('value'), { maxKeys: 5 }),
      ),
    }));
    fc.assert(
      fc.property(value, (json) => {
        expect(() => parse(JSON.stringify(json, null, 1))).toThrow(DefinitionError);
      }),
      { numRuns: 500 },
    );
  });
});
