import { mkdtemp, rm, stat } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import path from 'node:path';
import type { Field, Table } from '@anabranch/definition';
import fc from 'fast-check';
import { afterAll, afterEach, beforeAll, describe, expect, it } from 'vitest';
import {
  append,
  decimal,
  engineOptions,
  expression,
  field,
  planOf,
  source,
  textOf,
  upsert,
  windowed,
} from './definition-fixture.ts';
import { type Processed, type ProcessedTable, Processor, type TextBlock } from './processor.ts';

let directory: string;
const opened: Processor[] = [];

beforeAll(async () => {
  directory = await mkdtemp(path.join(tmpdir(), 'anabranch-compute-'));
});

afterAll(async () => {
  await rm(directory, { recursive: true });
});

afterEach(() => {
  for (const processor of opened.splice(0)) {
    processor.close();
  }
});

async function processorOf(
  fields: readonly Field[],
  tables: readonly Table[],
  branch: 'stream' | 'batch' = 'stream',
): Promise<Processor> {
  const processor = await Processor.open(await planOf(source(fields), tables), {
    ...engineOptions,
    branch,
    ...(branch === 'batch' ? { spoolDirectory: directory } : {}),
  });
  opened.push(processor);
  return processor;
}

const block = (
  lines: readonly string[],
  {
    start = 0n,
    partition = 0,
    runs = [{ start, count: lines.length }],
  }: {
    start?: bigint;
    partition?: number;
    runs?: TextBlock['runs'];
  } = {},
): TextBlock => ({ partition, text: textOf(lines), runs });

const only = ({ tables }: Processed): ProcessedTable => {
  expect(tables).toHaveLength(1);
  return tables[0] as ProcessedTable;
};

const rowsOf = ({ text }: ProcessedTable): string[] => text.toString().split('\n').slice(0, -1);

const counts = ({ read, filtered, aggregated, dead, rows }: ProcessedTable): object => ({
  read,
  filtered,
  aggregated,
  dead,
  rows,
});

/** Fields of a line of CSV, as COPY reads it: null for what isn't quoted and empty. */
function parseCsv(text: string): (string | null)[][] {
  const rows: (string | null)[][] = [];
  const token = /("(?:[^"]|"")*"|[^,\n]*)([,\n])/g;
  let row: (string | null)[] = [];
  for (const [, value = '', end] of text.matchAll(token)) {
    if (value.startsWith('"')) {
      row.push(value.slice(1, -1).replaceAll('""', '"'));
    } else {
      row.push(value === '' ? null : value);
    }
    if (end === '\n') {
      rows.push(row);
      row = [];
    }
  }
  return rows;
}

describe('rows as text for COPY', () => {
  it('keep every value as it is', async () => {
    const fields = [
      field('s', 'string', true),
      field('d', 'double'),
      field('m', decimal(38, 10)),
      field('l', 'long'),
      field('b', 'boolean', true),
      field('day', 'date'),
      field('t', 'timestamp-micros'),
      field('u', 'uuid'),
    ];
    const processor = await processorOf(fields, [
      append('t', {
        ...Object.fromEntries(fields.map(({ name }) => [name, name])),
        f: 'TRY_CAST(d AS float)',
        huge: 'l::hugeint * 1000000000',
        naive: 't::timestamp',
        e: "'x'::enum('x')",
      }),
    ]);
    const line = (s: string, d: string, b: string): string =>
      `{"s":${s},"d":${d},"m":"-1234567890123456789012345678.0123456789","l":-9223372036854775808,"b":${b},` +
      '"day":"0001-01-01","t":253402300799999999,"u":"8b1b6a1e-6f1f-4a0e-9d2b-000000000000","event_time":"2026-01-31T12:00:00.123456+02:00"}';
    const result = await processor.process([
      block([
        line('"a,\\"b\\"\\n\\r\\\\.\\tä"', '-0.0', 'true'),
        line('""', '1e300', 'null'),
        line('null', '0.1', 'false'),
      ]),
    ]);
    const rest = (d: string, b: string, f: string): string =>
      `${d},-1234567890123456789012345678.0123456789,-9223372036854775808,${b},0001-01-01,9999-12-31 23:59:59.999999+00,` +
      `8b1b6a1e-6f1f-4a0e-9d2b-000000000000,${f},-9223372036854775808000000000,9999-12-31 23:59:59.999999,"x",1,0\n`;
    expect(only(result).text.toString()).toBe(
      `0,0,2026-01-31 10:00:00.123456+00,"a,""b""\n\r\\.\tä",${rest('-0.0', 'true', '-0.0')}` +
        `0,1,2026-01-31 10:00:00.123456+00,"",${rest('1e+300', '', '')}` +
        `0,2,2026-01-31 10:00:00.123456+00,,${rest('0.1', 'false', '0.1')}`,
    );
  });

  it('give back any text and any double', async () => {
    const processor = await processorOf(
      [field('s', 'string', true), field('d', 'double'), field('f', 'float')],
      [append('t', { s: 's', d: 'd', f: 'f' })],
    );
    const record = fc.record({
      s: fc.option(
        fc
          .oneof(fc.string({ unit: 'binary' }), fc.stringMatching(/^[",\n\r\\.x]*$/))
          .map((text) => text.replaceAll('\0', '')),
      ),
      d: fc.double({ noNaN: true, noDefaultInfinity: true }),
      f: fc.float({ noNaN: true, noDefaultInfinity: true }),
    });
    await fc.assert(
      fc.asyncProperty(fc.array(record, { minLength: 1, maxLength: 50 }), async (records) => {
        const lines = records.map((value) => JSON.stringify({ ...value, event_time: 1 }));
        const rows = parseCsv(only(await processor.process([block(lines)])).text.toString());
        expect(
          rows.map(([, , , s, d, f]) => ({ s, d: Number(d) + 0, f: Math.fround(Number(f)) + 0 })),
        ).toEqual(records.map(({ s, d, f }) => ({ s, d: d + 0, f: f + 0 })));
      }),
      { numRuns: 8 },
    );
  });

  it('are split over several texts where there are many, without losing one', async () => {
    const processor = await processorOf([], [append('t', { x: '1' })]);
    const lines = Array<string>(130_000).fill('{"event_time":1}');
    const result = await processor.process([
      block(lines),
      block(lines.slice(0, 10), { partition: 1 }),
    ]);
    const [first, second] = result.tables as [ProcessedTable, ProcessedTable];
    expect([first.rows, second.rows]).toEqual([130_000, 10]);
    expect(new Set(rowsOf(first)).size).toBe(130_000);
    expect(rowsOf(second)).toHaveLength(10);
  });
});

describe('records', () => {
  const fields = [field('n', 'int', true), field('s', 'string', true)];
  const line = (n: unknown, s: unknown = 'x', time = 0): string =>
    JSON.stringify({ n, s, event_time: time });

  it('are counted by fate, for each table and partition, also where there is none', async () => {
    const processor = await processorOf(fields, [
      append('a', { n: 'n' }, { dropNulls: ['n'], where: expression('n > 1') }),
      windowed('b', [], { n: 'count(*)' }),
    ]);
    const result = await processor.process([
      block([line(1), line(2), line(null)]),
      block([line(3)], { start: 9n }),
      block([], { partition: 7, runs: [] }),
    ]);
    expect(result.tables.map((table) => [table.name, table.partition, counts(table)])).toEqual([
      ['a', 0, { read: 4, filtered: 2, aggregated: 2, dead: 0, rows: 2 }],
      ['a', 7, { read: 0, filtered: 0, aggregated: 0, dead: 0, rows: 0 }],
      ['b', 0, { read: 4, filtered: 0, aggregated: 4, dead: 0, rows: 1 }],
      ['b', 7, { read: 0, filtered: 0, aggregated: 0, dead: 0, rows: 0 }],
    ]);
    expect(rowsOf(result.tables[0] as ProcessedTable).map((row) => row.split(',')[1])).toEqual([
      '1',
      '9',
    ]);
    expect((await processor.process([])).tables).toEqual([]);
  });

  it('have the offsets of their runs', async () => {
    const processor = await processorOf(fields, [append('t', { n: 'n' })]);
    const result = await processor.process([
      block(
        [1, 2, 3, 4].map((n) => line(n)),
        {
          partition: 3,
          runs: [
            { start: 5n, count: 1 },
            { start: 9_007_199_254_740_993n, count: 2 },
            { start: 9_223_372_036_854_775_000n, count: 1 },
          ],
        },
      ),
    ]);
    expect(rowsOf(only(result)).map((row) => row.split(',').slice(0, 2).join())).toEqual([
      '3,5',
      '3,9007199254740993',
      '3,9007199254740994',
      '3,9223372036854775000',
    ]);
  });

  it.each([
    ['more lines than runs', block([line(1), line(2)], { runs: [{ start: 0n, count: 1 }] })],
    ['fewer lines than runs', block([line(1)], { runs: [{ start: 0n, count: 2 }] })],
    ['no last line feed', { ...block([line(1)]), text: Buffer.from(line(1)) }],
    ['something that is no record', block(['{"n":'])],
    ['a record without event time', block(['{"n":1}'])],
    ['an event time that is none', block(['{"event_time":"x"}'])],
  ])('of a damaged block are refused: %s', async (_, damaged) => {
    const processor = await processorOf(fields, [append('t', { n: 'n' })]);
    await expect(processor.process([damaged])).rejects.toMatchObject({
      code: expect.stringMatching(/^BLOCK_/) as string,
    });
    await expect(processor.process([block([line(1)])])).resolves.toMatchObject({
      tables: [{ rows: 1 }],
    });
  });

  it('on which an expression fails are dead for that table only, with DuckDB’s words', async () => {
    const processor = await processorOf(fields, [
      append('a', { doubled: 'n + 2000000000', number: 'CAST(s AS integer)', sum: 'number + 1' }),
      append('b', { n: 'n' }),
    ]);
    const result = await processor.process([
      block([line(1, '5'), line(2_000_000_000, '5'), line(3, 'x'), line(4, '2147483647')], {
        start: 10n,
      }),
    ]);
    const [a, b] = result.tables as [ProcessedTable, ProcessedTable];
    expect(counts(a)).toEqual({ read: 4, filtered: 0, aggregated: 1, dead: 3, rows: 1 });
    expect(rowsOf(a)).toEqual(['0,10,1970-01-01 00:00:00+00,2000000001,5,6,1,0']);
    expect(counts(b)).toMatchObject({ aggregated: 4, dead: 0, rows: 4 });
    expect(
      result.deadLetters.map((letter) => ({ ...letter, text: letter.text?.toString() })),
    ).toEqual([
      {
        partition: 0,
        offset: 11n,
        table: 'a',
        code: 'expression',
        detail: expect.stringMatching(/^doubled: Out of Range Error: Overflow/) as string,
        text: line(2_000_000_000, '5'),
      },
      {
        partition: 0,
        offset: 12n,
        table: 'a',
        code: 'expression',
        detail: expect.stringMatching(
          /^number: Conversion Error: Could not convert string 'x'/,
        ) as string,
        text: line(3, 'x'),
      },
      {
        partition: 0,
        offset: 13n,
        table: 'a',
        code: 'expression',
        detail: expect.stringMatching(/^sum: Out of Range Error/) as string,
        text: line(4, '2147483647'),
      },
    ]);
  });

  it('that fail in `where`, in an argument or in a key are dead as well, and none is in two places', async () => {
    const processor = await processorOf(fields, [
      windowed(
        't',
        ['key'],
        {
          n: 'count(*)',
          most: 'max(100 // CAST(s AS integer) + n)',
          total: 'sum(CAST(s AS integer))',
        },
        {
          of: { key: "CAST(CASE WHEN n = 4 THEN 'bad' ELSE '1' END AS integer)" },
          dropNulls: ['n'],
          where: expression('n < 3 OR CAST(s AS integer) > 0'),
        },
      ),
    ]);
    const result = await processor.process([
      block([
        line(1, '7'),
        line(1, 'argument'),
        line(4, '8'),
        line(5, 'where'),
        line(null, 'filtered'),
        line(6, '0'),
      ]),
    ]);
    expect(counts(only(result))).toEqual({ read: 6, filtered: 2, aggregated: 1, dead: 3, rows: 1 });
    expect(rowsOf(only(result))).toEqual(['1970-01-01 00:00:00+00,1,1,15,7,1,0']);
    expect(result.deadLetters.map(({ offset, detail }) => [offset, detail.split(':')[0]])).toEqual([
      [3n, 'where'],
      [2n, 'key'],
      [1n, 'aggregate most'],
    ]);
  });

  it('have the same fate whatever is beside them', async () => {
    const where = expression('n < 3 OR CAST(s AS integer) > 0');
    const processor = await processorOf(fields, [
      append('a', { n: 'n' }, { where }),
      append('b', { n: 'n' }, { where, dropNulls: ['n'] }),
    ]);
    const fine = line(1, 'not needed');
    for (const beside of [
      [],
      [line(5, '1')],
      [line(null)],
      [line(5, 'x')],
      [line(null), line(5, 'x'), line(1, 'y')],
    ]) {
      const lines = [...beside, fine];
      const result = await processor.process([block(lines)]);
      const last = `0,${String(beside.length)},`;
      for (const table of result.tables) {
        expect(rowsOf(table).filter((row) => row.startsWith(last))).toHaveLength(1);
      }
    }
  });

  it.each([
    ['a term that is false for all of them', 'CAST(s AS integer) > 3 AND n > 5'],
    ['a term that is true for all of them', 'CAST(s AS integer) > 3 OR n < 5'],
    ['a term that is NULL for all of them', 'CAST(s AS integer) > 3 AND n IS NULL'],
  ])('fail whatever is beside them, also with %s', async (_, sql) => {
    const processor = await processorOf(fields, [
      append('a', { n: 'n' }, { where: expression(sql) }),
      append('b', { v: sql }),
      append('c', { v: `CASE WHEN ${sql} THEN 1 ELSE 2 END` }),
    ]);
    for (const beside of [[], [line(9, '1')], [line(null, '9'), line(8, '4'), line(1, '5')]]) {
      const result = await processor.process([block([line(1, 'x'), ...beside])]);
      expect(result.deadLetters.map(({ table, offset }) => [table, offset])).toEqual([
        ['a', 0n],
        ['b', 0n],
        ['c', 0n],
      ]);
    }
  });

  it('whose values Postgres can’t hold are dead, not the partial', async () => {
    const processor = await processorOf(fields, [
      append('t', {
        text: 'chr(n)',
        again: 'text',
        day: 'CAST(event_time AS date) + n * 10000',
        time: 'event_time + to_years(n * 20)',
      }),
    ]);
    const result = await processor.process([block([line(65), line(0), line(300)])]);
    expect(counts(only(result))).toMatchObject({ aggregated: 1, dead: 2 });
    expect(result.deadLetters.map(({ offset, detail }) => [offset, detail.slice(0, 45)])).toEqual([
      [1n, expect.stringMatching(/^text: text with a NUL character: /)],
      [2n, 'day: date outside of the years 1 to 9999: 101'],
    ]);
  });

  it.each([
    ['a window’s group', windowed('t', ['s', 'other'], { all: 'count(*)' })],
    ['a key', upsert('t', ['s', 'other'], { s: 's', other: 'other', n: 'n' })],
  ])('whose texts are too long for the index of %s are dead, not the partial', async (_, table) => {
    const processor = await processorOf(
      [field('n', 'int'), field('s', 'string', true), field('other', 'string', true)],
      [table],
    );
    const record = (s: string | null, other: string | null): string =>
      JSON.stringify({ n: 1, s, other, event_time: 0 });
    const result = await processor.process([
      block([
        record('x'.repeat(1000), 'y'.repeat(500)),
        record('x'.repeat(1000), 'y'.repeat(501)),
        record('\u{1F600}'.repeat(376), null),
        record(null, 'y'.repeat(2_000_000)),
        record(null, null),
      ]),
    ]);
    expect(counts(only(result))).toMatchObject({ aggregated: 2, dead: 3, rows: 2 });
    expect(result.deadLetters.map(({ offset, detail }) => [offset, detail])).toEqual(
      [1501, 1504, 2_000_000].map((bytes, i) => [
        BigInt(i + 1),
        `s: a key with ${String(bytes)} bytes of text; Postgres can index 1500`,
      ]),
    );
  });

  it('may all fail, over and over', async () => {
    const processor = await processorOf(fields, [append('t', { v: 'CAST(s AS integer)' })]);
    for (let i = 0; i < 3; i++) {
      const result = await processor.process([
        block(Array.from({ length: 300 }, (_, n) => line(n, 'x'))),
      ]);
      expect(counts(only(result))).toEqual({
        read: 300,
        filtered: 0,
        aggregated: 0,
        dead: 300,
        rows: 0,
      });
      expect(result.deadLetters).toHaveLength(300);
    }
  });
});

describe('columns', () => {
  it('may use earlier ones, which win over fields of the same name', async () => {
    const processor = await processorOf(
      [field('n', 'int'), field('Upper', 'int')],
      [append('t', { a: 'n + 1', n: 'a * 10', b: 'n + A', c: 'upper' })],
    );
    const result = await processor.process([block(['{"n":1,"Upper":7,"event_time":0}'])]);
    expect(rowsOf(only(result))).toEqual(['0,0,1970-01-01 00:00:00+00,2,20,22,7,1,0']);
  });

  it('may have comments and line breaks', async () => {
    const processor = await processorOf(
      [field('n', 'int')],
      [
        append(
          't',
          { a: 'n -- the number\n + 1 -- more' },
          { where: expression('n > 0 -- or else') },
        ),
      ],
    );
    const result = await processor.process([block(['{"n":1,"event_time":0}'])]);
    expect(rowsOf(only(result))).toEqual(['0,0,1970-01-01 00:00:00+00,2,1,0']);
  });

  it('may have the names that DuckDB or this library uses', async () => {
    const processor = await processorOf(
      [
        field('_partition', 'int'),
        field('records', 'int'),
        field('rows', 'int'),
        field('r', 'int'),
      ],
      [
        append('records', {
          partition: '_partition',
          records: 'records',
          offset: '"rows"',
          x: 'r',
        }),
      ],
    );
    const result = await processor.process([
      block(['{"_partition":1,"records":2,"rows":3,"r":4,"event_time":0}'], { partition: 9 }),
    ]);
    expect(rowsOf(only(result))).toEqual(['9,0,1970-01-01 00:00:00+00,1,2,3,4,1,0']);
  });
});

describe('a table with a key', () => {
  it('has the newest row of each key, by time and then offset, and counts all', async () => {
    const processor = await processorOf(
      [field('k', 'string', true), field('v', 'int')],
      [upsert('t', ['k'], { v: 'v', k: 'k' })],
    );
    const line = (k: string | null, v: number, time: number): string =>
      JSON.stringify({ k, v, event_time: time });
    const lines = [
      line('a', 1, 5),
      line('a', 2, 9),
      line('a', 3, 9),
      line('a', 4, 1),
      line(null, 5, 1),
      line(null, 6, 0),
    ];
    const result = await processor.process([
      block(lines, { start: 100n }),
      block([line('a', 7, 0)], { partition: 1 }),
    ]);
    expect(result.tables.map((table) => rowsOf(table).toSorted())).toEqual([
      ['0,102,1970-01-01 00:00:00.009+00,3,"a",4,0', '0,104,1970-01-01 00:00:00.001+00,5,,2,0'],
      ['1,0,1970-01-01 00:00:00+00,7,"a",1,0'],
    ]);
  });
});

describe('a window', () => {
  it('begins at a multiple of its size since 1970, also before that', async () => {
    const processor = await processorOf(
      [],
      [windowed('t', [], { n: 'count(*)' }, { window: { size: 7 * 86_400_000, grace: 0 } })],
    );
    const times = [0, -1, 604_799_999, 604_800_000, -604_800_000, -62_135_596_800_000];
    const result = await processor.process([
      block(times.map((time) => `{"event_time":${String(time)}}`)),
    ]);
    expect(rowsOf(only(result)).toSorted()).toEqual([
      '0001-12-28 00:00:00+00 BC,1,1,0',
      '1969-12-25 00:00:00+00,2,2,0',
      '1970-01-01 00:00:00+00,2,2,0',
      '1970-01-08 00:00:00+00,1,1,0',
    ]);
  });

  it('says NULL of no values, as SQL does, and holds -0 and 0 for the same', async () => {
    const processor = await processorOf(
      [field('n', 'int', true), field('d', 'double')],
      [
        windowed('t', ['d'], {
          all: 'count(*)',
          some: 'count(n)',
          total: 'sum(n)',
          lowest: 'min(n)',
          average: 'avg(n)',
          zero: 'max(d)',
        }),
      ],
    );
    const result = await processor.process([
      block(['{"n":null,"d":0,"event_time":0}', '{"n":null,"d":-0.0,"event_time":0}']),
    ]);
    expect(rowsOf(only(result))).toEqual(['1970-01-01 00:00:00+00,0.0,2,0,,,,0,0.0,2,0']);
  });

  it('adds up what would overflow 64 bits', async () => {
    const processor = await processorOf(
      [field('l', 'long'), field('m', decimal(28, 2))],
      [windowed('t', [], { l: 'sum(l)', m: 'sum(m)' })],
    );
    const line = '{"l":9223372036854775807,"m":"99999999999999999999999999.99","event_time":0}';
    const result = await processor.process([block(Array<string>(1000).fill(line))]);
    expect(rowsOf(only(result))).toEqual([
      '1970-01-01 00:00:00+00,9223372036854775807000,99999999999999999999999999990.00,1000,0',
    ]);
  });

  it('compares text byte by byte', async () => {
    const processor = await processorOf(
      [field('s', 'string')],
      [windowed('t', [], { low: 'min(s)', high: 'max(s)' })],
    );
    const words = ['b', 'B', 'a', 'Z', 'ä', 'z', '\u{1F600}', '\uFFFD'];
    const result = await processor.process([
      block(words.map((s) => JSON.stringify({ s, event_time: 0 }))),
    ]);
    const sorted = words.toSorted((a, b) => Buffer.compare(Buffer.from(a), Buffer.from(b)));
    expect(rowsOf(only(result))).toEqual([
      `1970-01-01 00:00:00+00,"${sorted[0] ?? ''}","${sorted.at(-1) ?? ''}",8,0`,
    ]);
  });
});

describe('the batch branch', () => {
  const fields = [field('n', 'int', true), field('s', 'string')];
  const tables = [
    append('a', { v: 'CAST(s AS integer)', n: 'n' }, { dropNulls: ['n'] }),
    windowed('b', ['s'], { total: 'sum(n)', average: 'avg(n)' }),
    upsert('c', ['s'], { s: 's', n: 'n' }),
  ];

  it('computes from Parquet what the stream branch computes from blocks', async () => {
    const stream = await processorOf(fields, tables);
    const batch = await processorOf(fields, tables, 'batch');
    const lines = Array.from({ length: 3000 }, (_, i) =>
      JSON.stringify({
        n: i % 7 === 0 ? null : i,
        s: i % 501 === 0 ? 'x"y' : String(i % 20),
        event_time: i * 100,
      }),
    );
    const blocks = [
      block(lines.slice(0, 1000), { start: 50n }),
      block(lines.slice(1000, 2000), { partition: 1 }),
      block(lines.slice(2000), { start: 1050n }),
    ];
    const files = blocks.map((_, i) => path.join(directory, `${String(i)}.parquet`));
    for (const [i, one] of blocks.entries()) {
      await expect(batch.spool([one], files[i] ?? '')).resolves.toMatchObject({
        records: 1000,
        bytes: one.text.length,
      });
    }
    expect((await stat(files[0] ?? '')).size).toBeGreaterThan(0);
    const expected = await stream.process([...blocks, block([], { partition: 5, runs: [] })]);
    const got = await batch.processFiles(files, [5]);
    const plain = ({ tables: results }: Processed, swap: boolean): unknown =>
      results
        .map((table) => ({
          ...table,
          text: rowsOf(table)
            .map((row) => (swap ? row.replace(/,(\d+),(\d+)$/, ',$2,$1') : row))
            .toSorted(),
        }))
        .toSorted((x, y) => x.name.localeCompare(y.name) || x.partition - y.partition);
    expect(plain(got, true)).toEqual(plain(expected, false));
    expect(got.deadLetters.length).toBeGreaterThan(0);
    expect(got.deadLetters).toEqual(expected.deadLetters);
  });

  it('spools nothing, and processes nothing', async () => {
    const batch = await processorOf(fields, tables, 'batch');
    const file = path.join(directory, 'empty.parquet');
    await expect(batch.spool([], file)).resolves.toMatchObject({ records: 0, bytes: 0 });
    for (const files of [[file], []]) {
      const result = await batch.processFiles(files, [2]);
      expect(result.tables.map(({ partition, read, rows }) => [partition, read, rows])).toEqual([
        [2, 0, 0],
        [2, 0, 0],
        [2, 0, 0],
      ]);
    }
  });

  it('can’t reach what is outside of its folder', async () => {
    const batch = await processorOf(fields, tables, 'batch');
    await expect(
      batch.spool(
        [block(['{"n":1,"s":"","event_time":0}'])],
        path.join(tmpdir(), 'anabranch-elsewhere.parquet'),
      ),
    ).rejects.toMatchObject({ code: 'QUERY_FAILED' });
    await expect(batch.processFiles([path.join(directory, '..', 'x.parquet')])).rejects.toThrow(
      'disabled by configuration',
    );
    await expect(batch.processFiles(['https://example.com/x.parquet'])).rejects.toThrow(Error);
  });

  it('spills to its folder what doesn’t fit into memory', async () => {
    const plan = await planOf(source([field('s', 'string')]), [append('t', { s: 's' })]);
    const batch = await Processor.open(plan, {
      memoryLimit: '50MB',
      threads: 1,
      branch: 'batch',
      spoolDirectory: directory,
    });
    opened.push(batch);
    const files: string[] = [];
    for (let i = 0; i < 16; i++) {
      const lines = Array.from(
        { length: 5000 },
        (_, n) => `{"s":"${String(i * 5000 + n).padStart(900, '-')}","event_time":0}`,
      );
      files.push(path.join(directory, `spill-${String(i)}.parquet`));
      await batch.spool([block(lines, { start: BigInt(i * 5000) })], files.at(-1) ?? '');
    }
    const result = await batch.processFiles(files);
    expect(counts(only(result))).toMatchObject({ read: 80_000, rows: 80_000 });
  });
});
