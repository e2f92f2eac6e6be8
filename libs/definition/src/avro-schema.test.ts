import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { readAvroSchema } from './avro-schema.ts';
import type { Problem } from './errors.ts';
import type { Field } from './model.ts';

function read(text: string): { fields: Field[] | null; problems: Problem[] } {
  const problems: Problem[] = [];
  const fields = readAvroSchema('orders.avsc', text, problems);
  expect(fields === null).toBe(problems.length > 0);
  return { fields, problems };
}

function record(...fields: readonly unknown[]): string {
  return JSON.stringify({ type: 'record', name: 'Order', fields });
}

function messages(text: string): string[] {
  return read(text).problems.map(({ message, hint }) =>
    hint === undefined ? message : `${message} — ${hint}`,
  );
}

const leaveOut = 'leave the field out: what the schema does not name is ignored';
const bytesDecimal = { type: 'bytes', logicalType: 'decimal', precision: 12, scale: 2 };

describe('the type of a field', () => {
  it.each<[type: unknown, kind: unknown, nullable: boolean]>([
    ['boolean', { kind: 'boolean' }, false],
    ['int', { kind: 'int' }, false],
    ['long', { kind: 'long' }, false],
    ['float', { kind: 'float' }, false],
    ['double', { kind: 'double' }, false],
    ['string', { kind: 'string' }, false],
    [{ type: 'string', 'avro.java.string': 'String' }, { kind: 'string' }, false],
    [['null', 'long'], { kind: 'long' }, true],
    [['long', 'null'], { kind: 'long' }, true],
    [[{ type: 'null' }, { type: 'long' }], { kind: 'long' }, true],
    [['long'], { kind: 'long' }, false],
    [bytesDecimal, { kind: 'decimal', precision: 12, scale: 2 }, false],
    [
      { type: 'bytes', logicalType: 'decimal', precision: 38 },
      { kind: 'decimal', precision: 38, scale: 0 },
      false,
    ],
    [
      { type: 'fixed', name: 'F', size: 8, logicalType: 'decimal', precision: 4, scale: 4 },
      { kind: 'decimal', precision: 4, scale: 4 },
      false,
    ],
    [{ type: 'int', logicalType: 'date' }, { kind: 'date' }, false],
    [{ type: 'long', logicalType: 'timestamp-millis' }, { kind: 'timestamp-millis' }, false],
    [
      ['null', { type: 'long', logicalType: 'timestamp-micros' }],
      { kind: 'timestamp-micros' },
      true,
    ],
    [{ type: 'string', logicalType: 'uuid' }, { kind: 'uuid' }, false],
    [
      { type: 'enum', name: 'E', symbols: ['A', 'b_1'] },
      { kind: 'enum', symbols: ['A', 'b_1'] },
      false,
    ],
  ])('%j', (type, kind, nullable) => {
    expect(read(record({ name: 'a', type })).fields).toEqual([
      { name: 'a', type: kind, nullable, defaultSql: null },
    ]);
  });

  it('may be a name defined before, with or without its namespace', () => {
    const text = JSON.stringify({
      type: 'record',
      name: 'Order',
      namespace: 'shop',
      fields: [
        { name: 'a', type: { type: 'enum', name: 'Color', symbols: ['RED'] } },
        { name: 'b', type: ['null', 'Color'] },
        { name: 'c', type: 'shop.Color' },
        { name: 'd', type: { type: 'enum', name: 'Size', namespace: 'other', symbols: ['S'] } },
        { name: 'e', type: 'other.Size' },
      ],
    });
    expect(read(text).fields?.map(({ type, nullable }) => [type.kind, nullable])).toEqual([
      ['enum', false],
      ['enum', true],
      ['enum', false],
      ['enum', false],
      ['enum', false],
    ]);
  });

  it.each<[type: unknown, message: string]>([
    ['strnig', 'unknown type "strnig" — did you mean "string"?'],
    ['date', 'unknown type "date" — write { "type": "int", "logicalType": "date" }'],
    [
      'constructor',
      'unknown type "constructor" — possible: boolean, int, long, float, double, string, enum, decimal, date, timestamp-millis, timestamp-micros, uuid',
    ],
    ['Order', `the record contains itself — ${leaveOut}`],
    [['null', 'Order'], `the record contains itself — ${leaveOut}`],
    [
      { type: 'record', name: 'R', fields: [] },
      `the type record isn't possible: a field holds one plain value — ${leaveOut}`,
    ],
    [
      { type: 'array', items: 'int' },
      `the type array isn't possible: a field holds one plain value — ${leaveOut}`,
    ],
    [
      { type: 'map', values: 'int' },
      `the type map isn't possible: a field holds one plain value — ${leaveOut}`,
    ],
    ['null', `the type null isn't possible: a field holds one plain value — ${leaveOut}`],
    [
      'bytes',
      `bytes are possible only as decimal — write { "type": "bytes", "logicalType": "decimal", "precision": 12, "scale": 2 }, or ${leaveOut}`,
    ],
    [
      { type: 'fixed', name: 'F', size: 4 },
      `fixed are possible only as decimal — write { "type": "bytes", "logicalType": "decimal", "precision": 12, "scale": 2 }, or ${leaveOut}`,
    ],
    [['int', 'string'], `the only unions possible are of "null" and one other type — ${leaveOut}`],
    [
      ['null', 'int', 'string'],
      `the only unions possible are of "null" and one other type — ${leaveOut}`,
    ],
    [['null', 'null'], `the only unions possible are of "null" and one other type — ${leaveOut}`],
    [['null'], `the only unions possible are of "null" and one other type — ${leaveOut}`],
    [[], `the only unions possible are of "null" and one other type — ${leaveOut}`],
    [['null', ['int']], 'a union directly in a union'],
    [{ type: ['null', 'int'] }, 'a type within a type — write the inner one alone'],
    [{}, 'a type must be a name, a union, or an object with a "type"'],
    [5, 'a type must be a name, a union, or an object with a "type"'],
    [
      { type: 'long', logicalType: 'timestamp-milis' },
      'the logical type "timestamp-milis" isn\'t possible — did you mean "timestamp-millis"?',
    ],
    [
      { type: 'int', logicalType: 'time-millis' },
      `the logical type "time-millis" isn't possible — possible: decimal, date, timestamp-millis, timestamp-micros, uuid; or ${leaveOut}`,
    ],
    [
      { type: 'int', logicalType: 'timestamp-millis' },
      'the logical type timestamp-millis belongs to long, not "int"',
    ],
    [
      { type: 'string', logicalType: 'decimal' },
      'the logical type decimal belongs to bytes or fixed, not "string"',
    ],
    [{ type: 'bytes', logicalType: 'decimal' }, 'a decimal needs a "precision" from 1 to 38'],
    [{ ...bytesDecimal, precision: 39 }, 'a decimal needs a "precision" from 1 to 38'],
    [{ ...bytesDecimal, scale: 13 }, 'the "scale" must be from 0 to the precision, 12'],
    [{ ...bytesDecimal, scale: -1 }, 'the "scale" must be from 0 to the precision, 12'],
    [{ type: 'enum', name: 'E', symbols: [] }, 'an enum needs "symbols", 1 to 10000'],
    [{ type: 'enum', name: 'E', symbols: ['A', 'A'] }, 'the symbol "A" is there twice'],
    [
      { type: 'enum', name: 'E', symbols: ["a'b"] },
      'a symbol must be of letters, digits and _, no digit first',
    ],
  ])("can't be %j", (type, message) => {
    expect(messages(record({ name: 'a', type }))).toEqual([`field "a": ${message}`]);
  });

  it('has its logical type inside, not beside it', () => {
    const field = { name: 'a', type: 'long', logicalType: 'timestamp-millis' };
    expect(messages(record(field))).toEqual([
      'field "a": "logicalType" stands beside "type", where Avro ignores it — write "type": { "type": "long", "logicalType": "timestamp-millis" }',
    ]);
  });
});

describe('a default', () => {
  it.each<[type: unknown, value: unknown, sql: string | null]>([
    ['boolean', false, 'false'],
    ['int', -5, '-5'],
    ['long', 9_007_199_254_740_990, 'CAST(9007199254740990 AS BIGINT)'],
    ['float', 1.5, "CAST('1.5' AS FLOAT)"],
    ['double', 1e-7, "CAST('1e-7' AS DOUBLE)"],
    ['string', 'it\'s \\ "x"', "'it''s \\ \"x\"'"],
    [
      { type: 'string', logicalType: 'uuid' },
      '123e4567-e89b-12d3-a456-426614174000',
      "CAST('123e4567-e89b-12d3-a456-426614174000' AS UUID)",
    ],
    [{ type: 'enum', name: 'E', symbols: ['A', 'B'] }, 'B', "'B'"],
    [{ type: 'int', logicalType: 'date' }, -1, "DATE '1969-12-31'"],
    [
      { type: 'long', logicalType: 'timestamp-millis' },
      -1,
      "TIMESTAMPTZ '1969-12-31 23:59:59.999000+00'",
    ],
    [
      { type: 'long', logicalType: 'timestamp-micros' },
      1_000_001,
      "TIMESTAMPTZ '1970-01-01 00:00:01.000001+00'",
    ],
    [bytesDecimal, '\u0004\u00d2', "CAST('12.34' AS DECIMAL(12,2))"],
    [bytesDecimal, '\u00ff', "CAST('-0.01' AS DECIMAL(12,2))"],
    [['null', 'int'], null, null],
    [['int', 'null'], 7, '7'],
  ])('of %j, %j, is %s in SQL', (type, value, sql) => {
    expect(read(record({ name: 'a', type, default: value })).fields?.[0]?.defaultSql).toBe(sql);
  });

  it.each<[type: unknown, value: unknown, message: string]>([
    ['int', 'x', "the default isn't a possible int"],
    ['int', 2 ** 31, "the default isn't a possible int"],
    ['int', 1.5, "the default isn't a possible int"],
    ['long', 2 ** 60, "the default isn't a possible long"],
    ['boolean', 1, "the default isn't a possible boolean"],
    ['string', null, "the default isn't a possible string"],
    [{ type: 'enum', name: 'E', symbols: ['A'] }, 'B', "the default isn't a possible enum"],
    [{ type: 'string', logicalType: 'uuid' }, "' OR 1", "the default isn't a possible uuid"],
    [{ type: 'int', logicalType: 'date' }, 3_000_000, "the default isn't a possible date"],
    [
      { type: 'long', logicalType: 'timestamp-millis' },
      1e15,
      "the default isn't a possible timestamp-millis",
    ],
    [{ ...bytesDecimal, precision: 2 }, '\u0004\u00d2', "the default isn't a possible decimal"],
    [bytesDecimal, '\u0100', "the default isn't a possible decimal"],
    [
      ['null', 'int'],
      1,
      'the default of a union must be of its first type — put "null" second, or make it null',
    ],
    [['int', 'null'], null, 'the default of a union must be of its first type — put "null" first'],
  ])("of %j can't be %j", (type, value, message) => {
    expect(messages(record({ name: 'a', type, default: value }))).toEqual([
      `field "a": ${message}`,
    ]);
  });
});

describe('a schema', () => {
  it.each<[text: string, message: string]>([
    [
      '"string"',
      'the schema must be a record — as in { "type": "record", "name": "Order", "fields": […] }',
    ],
    [
      '{"type":"enum","name":"E","symbols":["A"]}',
      'the schema must be a record — as in { "type": "record", "name": "Order", "fields": […] }',
    ],
    ['{"type":"record","fields":[]}', 'the record needs a "name": letters, digits and _'],
    [
      '{"type":"record","name":"a-b","fields":[]}',
      'the record needs a "name": letters, digits and _',
    ],
    ['{"type":"record","name":"A"}', 'the record needs "fields", at least one'],
    ['{"type":"record","name":"A","fields":[]}', 'the record needs "fields", at least one'],
    ['{"type":"record","name":"A","fields":{}}', 'the record needs "fields", at least one'],
    [
      record({ type: 'int' }),
      'a field needs a "name" of letters, digits and _, at most 128, no digit first',
    ],
    [
      record({ name: '1a', type: 'int' }),
      'a field needs a "name" of letters, digits and _, at most 128, no digit first',
    ],
    [
      record({ name: 'a"b', type: 'int' }),
      'a field needs a "name" of letters, digits and _, at most 128, no digit first',
    ],
    [record('a'), 'a field needs a "name" of letters, digits and _, at most 128, no digit first'],
    [record({ name: 'a' }), 'field "a": has no "type"'],
    [
      record({ name: 'a', type: 'int' }, { name: 'a', type: 'int' }),
      'the field "a" is there twice — SQL takes them for one: leave one out',
    ],
    [
      record({ name: 'Id', type: 'int' }, { name: 'ID', type: 'int' }),
      'the fields "Id" and "ID" differ only in case — SQL takes them for one: leave one out',
    ],
    [
      record(...Array.from({ length: 1001 }, (_, i) => ({ name: `f${String(i)}`, type: 'int' }))),
      `has more than 1000 fields — ${leaveOut}`,
    ],
    [`${record({ name: 'a', type: 'int' })}${' '.repeat(1024 * 1024)}`, 'is longer than 1 MiB'],
    [`${'['.repeat(5000)}${']'.repeat(5000)}`, 'nested too deeply'],
    ['{"type":"record","name":"A","name":"B","fields":[]}', 'the key "name" is in line 1 already'],
  ])('is refused: %#', (text, message) => {
    expect(messages(text)).toContain(message);
  });

  it('reports all fields that are wrong, each at its place', () => {
    const text = `{
  "type": "record", "name": "Order", "fields": [
    { "name": "a", "type": "strnig" },
    { "name": "b", "type": "int" },
\t{ "name": "c", "type": { "type": "array", "items": "int" } }
  ]
}`;
    expect(read(text).problems.map(({ line, column, text: at }) => [line, column, at])).toEqual([
      [3, 28, '"strnig"'],
      [5, 35, '"array"'],
    ]);
  });

  it.each([
    ['', 1, 1, 'not JSON: Unexpected end of JSON input'],
    ['{\n  "type": "record",\n}', 3, 1, 'not JSON: Expected double-quoted property name'],
    ['// c\n{}', 1, 1, "not JSON: Unexpected token '/'"],
    ['{\n  "type": record }', 2, 11, "not JSON: Unexpected token 'r'"],
  ])("that isn't JSON says where: %j", (text, line, column, message) => {
    expect(read(text).problems).toMatchObject([{ line, column, message }]);
  });

  it('is refused or read, whatever is in it', () => {
    const word = fc.constantFrom(
      'null',
      'int',
      'record',
      'fixed',
      'bytes',
      'enum',
      'decimal',
      'date',
      'A',
      'a',
      '__proto__',
      'constructor',
    );
    const key = fc.constantFrom(
      'type',
      'name',
      'fields',
      'logicalType',
      'symbols',
      'default',
      'precision',
      'scale',
      'size',
      'items',
      'namespace',
    );
    const { value } = fc.letrec<{ value: unknown }>((tie) => ({
      value: fc.oneof(
        { depthSize: 'small' },
        fc.oneof(word, word, fc.integer(), fc.constantFrom(null, true, 1e300, '\0', '\ud800')),
        fc.array(tie('value'), { maxLength: 3 }),
        fc.dictionary(key, tie('value'), { maxKeys: 6 }),
      ),
    }));
    const field = fc.record(
      { name: word, type: value, default: value },
      { requiredKeys: ['name'] },
    );
    const schema = fc.record({
      type: fc.constant('record'),
      name: word,
      fields: fc.array(fc.oneof(field, value), { maxLength: 4 }),
    });
    fc.assert(
      fc.property(fc.oneof(schema, value), (json) => {
        const { problems } = read(JSON.stringify(json));
        for (const { message } of problems) {
          expect(message).not.toMatch(/\[object|undefined"/);
        }
      }),
      { numRuns: 1000 },
    );
  });
});
