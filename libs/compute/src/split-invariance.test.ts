import type { Field } from '@anabranch/definition';
import fc from 'fast-check';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
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
import type { SourcePlan, TablePlan } from './plan.ts';
import { type Processed, Processor, type TextBlock } from './processor.ts';

const fields: Field[] = [
  field('region', 'string', true),
  field('price', decimal(12, 2), true),
  field('quantity', 'int', true),
  field('weight', 'double', true),
  field('note', 'string', true),
  field('express', 'boolean', true),
];

const tables = [
  append('rows', { total: 'price * quantity', note: 'note' }, { dropNulls: ['price'] }),
  upsert('latest', ['region'], { region: 'region', total: 'price * quantity', note: 'note' }),
  windowed(
    'per_second',
    ['region', 'heavy'],
    {
      n: 'count(*)',
      known: 'count(total)',
      total: 'sum(total)',
      average: 'avg(quantity)',
      least: 'min(weight)',
      most: 'max(weight)',
      lowest: 'min(note)',
      highest: 'max(note)',
      spread: 'var_samp(price)',
      all_express: 'bool_and(express)',
      any_express: 'bool_or(express)',
      first: 'first(note)',
      last: 'last(weight)',
      p95: 'approx_quantile(weight; 0.95)',
      buckets: 'histogram(price; -1, 0, 1.5)',
      // Fails on some records.
      parsed: 'sum(CAST(note AS integer))',
    },
    {
      of: { total: 'price * quantity', heavy: 'weight > 1 OR CAST(note AS integer) > 3' },
      where: expression('quantity IS NULL OR quantity < 90 OR CAST(note AS integer) > 0'),
      window: { size: 1000, grace: 0 },
    },
  ),
];

type Row = (string | null)[];

/**
 * A row per line; the values of these tests hold neither commas nor line breaks, nor quotes within them.
 */
function rowsOf(text: Buffer): Row[] {
  const lines = text.toString().split('\n').slice(0, -1);
  return lines.map((line) => line.split(',').map((value) => (value === '' ? null : value)));
}

/**
 * What Postgres does with the rows of several partials: the keys say which rows are one, and of the
 * others each column says how two values become one. The newest row of a key wins as a whole.
 */
function merge({ table, columns }: TablePlan, rows: readonly Row[]): Row[] {
  const roles = columns.map(({ role }) => role);
  const isKey = roles.map(
    (role) =>
      role === 'key' ||
      role === 'window_start' ||
      (table.kind === 'append' && (role === 'partition' || role === 'offset')),
  );
  const merged = new Map<string, Row>();
  for (const row of rows) {
    const key = JSON.stringify(row.filter((_, i) => isKey[i]));
    const other = merged.get(key);
    if (other === undefined) {
      merged.set(key, row);
      continue;
    }
    const newer = isNewer(row, other, roles) ? row : other;
    merged.set(
      key,
      columns.map(({ merge: by, postgresType }, i) =>
        by === null
          ? (newer[i] ?? null)
          : mergeValues(by, postgresType, row[i] ?? null, other[i] ?? null),
      ),
    );
  }
  return [...merged.values()];
}

function isNewer(a: Row, b: Row, roles: readonly string[]): boolean {
  const version = (row: Row): bigint[] => [
    BigInt(Date.parse(row[roles.indexOf('event_time')] ?? '') || 0),
    BigInt(row[roles.indexOf('partition')] ?? 0),
    BigInt(row[roles.indexOf('offset')] ?? 0),
  ];
  if (!roles.includes('event_time')) {
    return true;
  }
  const [mine, theirs] = [version(a), version(b)];
  const i = mine.findIndex((value, k) => value !== theirs[k]);
  return i >= 0 && (mine[i] ?? 0n) > (theirs[i] ?? 0n);
}

function mergeValues(
  by: NonNullable<TablePlan['columns'][number]['merge']>,
  type: string,
  a: string | null,
  b: string | null,
): string | null {
  if (a === null || b === null) {
    return a ?? b;
  }
  if (by === 'and' || by === 'or') {
    return [a, b].includes(by === 'and' ? 'false' : 'true') === (by === 'or') ? 'true' : 'false';
  }
  if (by === 'sum') {
    return sum(plain(a), plain(b));
  }
  const order =
    type === 'text' ? Buffer.compare(Buffer.from(a), Buffer.from(b)) : Number(a) - Number(b);
  return order < 0 === (by === 'least') ? a : b;
}

/** Without the exponent that the counts of quantiles have. */
function plain(value: string): string {
  const [digits = '', zeros] = value.split('e');
  return zeros === undefined ? value : BigInt(digits + '0'.repeat(Number(zeros))).toString();
}

function sum(a: string, b: string): string {
  const scale = Math.max(...[a, b].map((value) => value.split('.')[1]?.length ?? 0));
  const unscaled = (value: string): bigint =>
    BigInt(value.replace('.', '') + '0'.repeat(scale - (value.split('.')[1]?.length ?? 0)));
  const total = unscaled(a) + unscaled(b);
  const digits = String(total < 0n ? -total : total).padStart(scale + 1, '0');
  const text = scale === 0 ? digits : `${digits.slice(0, -scale)}.${digits.slice(-scale)}`;
  return `${total < 0n ? '-' : ''}${text}`;
}

const record = fc.record({
  region: fc.option(fc.constantFrom('eu', 'us', 'ä')),
  price: fc.option(fc.integer({ min: -500, max: 500 }).map((cents) => (cents / 100).toFixed(2))),
  quantity: fc.option(fc.oneof(fc.nat({ max: 100 }), fc.constant(2_147_483_647))),
  weight: fc.option(fc.constantFrom(0, -0, 0.1, 1.5, -7, 1e300)),
  note: fc.option(fc.constantFrom('1', '4', 'x', '', '-2')),
  express: fc.option(fc.boolean()),
  event_time: fc.integer({ min: -1500, max: 2500 }),
});

type Share = { record: object; partition: number; offset: bigint };

const lineOf = ({ record: value }: Share): string =>
  // JSON.stringify writes -0 as 0.
  JSON.stringify(value, (_, v: unknown) => (Object.is(v, -0) ? 'minus zero' : v)).replace(
    '"minus zero"',
    '-0.0',
  );

/** A block per partition, with a run per record: offsets in any order that records are taken in. */
function blocksOf(shares: readonly Share[]): TextBlock[] {
  return [...new Set(shares.map(({ partition }) => partition))].map((partition) => {
    const own = shares.filter((share) => share.partition === partition);
    return {
      partition,
      text: textOf(own.map(lineOf)),
      runs: own.map(({ offset }) => ({ start: offset, count: 1 })),
    };
  });
}

describe('which branch takes a record, in what order and in which block', () => {
  let plan: SourcePlan;
  let processors: Record<'stream' | 'batch', Processor>;

  beforeAll(async () => {
    plan = await planOf(source(fields), tables);
    const open = (branch: 'stream' | 'batch'): Promise<Processor> =>
      Processor.open(plan, { ...engineOptions, branch });
    processors = { stream: await open('stream'), batch: await open('batch') };
  });

  afterAll(() => {
    processors.stream.close();
    processors.batch.close();
  });

  it('changes neither rows nor dead letters, but for the counts per branch', async () => {
    const split = fc.array(
      fc.record({
        record,
        partition: fc.nat({ max: 1 }),
        branch: fc.constantFrom<('stream' | 'batch')[]>('stream', 'batch'),
        block: fc.nat({ max: 3 }),
        order: fc.nat(),
      }),
      { minLength: 1, maxLength: 40 },
    );
    let failed = 0;
    await fc.assert(
      fc.asyncProperty(split, async (drawn) => {
        const shares = drawn.map((share, i) => ({ ...share, offset: BigInt(i) }));
        const whole = await processors.stream.process(blocksOf(shares));
        failed += whole.deadLetters.length;

        const parts = new Map<string, typeof shares>();
        for (const share of shares.toSorted((a, b) => a.order - b.order)) {
          const key = `${share.branch} ${String(share.block)}`;
          parts.set(key, [...(parts.get(key) ?? []), share]);
        }
        const partials: Processed[] = [];
        for (const [key, part] of parts) {
          partials.push(
            await processors[key.startsWith('stream') ? 'stream' : 'batch'].process(blocksOf(part)),
          );
        }
        for (const table of plan.tables) {
          const rows = (all: typeof partials): string[] =>
            merge(
              table,
              all.flatMap((partial) =>
                partial.tables
                  .filter(({ name }) => name === table.table.name)
                  .flatMap(({ text }) => rowsOf(text)),
              ),
            )
              // The counts per branch may differ, their sum may not.
              .map((row) =>
                JSON.stringify([...row.slice(0, -2), Number(row.at(-2)) + Number(row.at(-1))]),
              )
              .toSorted();
          expect(rows(partials)).toEqual(rows([whole]));
        }
        const letters = (all: typeof partials): string[] =>
          all
            .flatMap(({ deadLetters }) => deadLetters)
            .map(({ partition, offset, table, detail, text }) =>
              [partition, String(offset), table, detail, text?.toString()].join(' '),
            )
            .toSorted();
        expect(letters(partials)).toEqual(letters([whole]));
      }),
      { numRuns: 40 },
    );
    expect(failed).toBeGreaterThan(0);
  });
});
