import { type Block, countRecords, restoreValue } from '@anabranch/contract';
import { recordBatch } from '@anabranch/contract/testing';
import fc from 'fast-check';
import { expect, it } from 'vitest';
import { type BlockContent, splitLines } from './blocks.ts';
import { type Lines, readLines } from './lines.ts';

interface Sample {
  readonly offset: number;
  readonly value: string;
  /** -1: dead; 0: the default branch; 1: the other one. */
  readonly fate: number;
}

const samples = fc
  .array(
    fc.record({
      gap: fc.oneof(fc.constant(0), fc.nat({ max: 3 })),
      value: fc.string({ maxLength: 6, unit: fc.constantFrom('a', 'ü', '\n', '\u{FEFF}') }),
      fate: fc.oneof({ weight: 3, arbitrary: fc.constant(0) }, fc.constantFrom(-1, 1)),
    }),
    { maxLength: 40 },
  )
  .map((rows) => {
    let offset = 0;
    return rows.map(({ gap, value, fate }): Sample => ({
      offset: (offset += gap + 1),
      value,
      fate,
    }));
  });

function linesOf(rows: readonly Sample[]): Lines {
  const records = rows.map(({ offset, value }) => ({ offset, value: Buffer.from(value) }));
  const [lines] = readLines(records.length === 0 ? [] : [recordBatch(records)], {
    from: 0n,
    to: 1000n,
    maxRecordBytes: 1000,
    headerNames: [],
    maxTextBytes: 100_000,
  });
  return lines as Lines;
}

function split(rows: readonly Sample[], defaultBranch: 'stream' | 'batch') {
  const exceptions = rows.flatMap(({ fate }, i) => (fate === 0 ? [] : [[i, fate] as const]));
  return splitLines(
    linesOf(rows),
    {
      exceptions: {
        positions: Uint32Array.from(exceptions, ([i]) => i),
        verdicts: Int16Array.from(exceptions, ([, fate]) => (fate < 0 ? -1 : 0)),
      },
      rules: [exceptions.length, rows.length - exceptions.length],
      dead: rows.filter(({ fate }) => fate < 0).length,
    },
    defaultBranch,
  );
}

/** Offset and value of each record of a block, as a processor would restore them. */
function contentOf({ payload, runs, altered }: BlockContent): [number, string][] {
  const offsets = runs.flatMap(({ start, count }) =>
    Array.from({ length: count }, (_, i) => Number(start) + i),
  );
  const values = payload.toString().split('\n');
  expect(values.pop()).toBe('');
  expect(values).toHaveLength(countRecords(runs));
  return values.map((value, i) => [
    offsets[i] ?? -1,
    restoreValue(
      Buffer.from(value),
      altered.find(({ record }) => record === i),
    ).toString(),
  ]);
}

const own = ({ offset, value }: Sample): [number, string] => [offset, value];

it('every record that is not dead is in exactly one branch, in order, with its offset and bytes', () => {
  fc.assert(
    fc.property(samples, fc.constantFrom('stream', 'batch'), (rows, defaultBranch) => {
      const { stream, batch, counts } = split(rows, defaultBranch);
      const usual = rows.filter(({ fate }) => fate === 0).map(own);
      const other = rows.filter(({ fate }) => fate === 1).map(own);
      const [toStream, toBatch] = defaultBranch === 'stream' ? [usual, other] : [other, usual];
      expect(contentOf(stream)).toEqual(toStream);
      expect(contentOf(batch)).toEqual(toBatch);
      expect(counts.stream).toBe(BigInt(toStream.length));
      expect(counts.batch).toBe(BigInt(toBatch.length));
      expect(counts.stream + counts.batch + counts.dead).toBe(BigInt(rows.length));
    }),
  );
});

it('a run goes on as long as offsets are adjacent, and no longer', () => {
  fc.assert(
    fc.property(samples, (rows) => {
      for (const { runs } of [split(rows, 'stream').stream, split(rows, 'stream').batch]) {
        runs.forEach(({ start, count }, i) => {
          const before = runs[i - 1];
          expect(count).toBeGreaterThan(0);
          expect(before === undefined || before.start + BigInt(before.count) < start).toBe(true);
        });
      }
    }),
  );
});

it('a text without exceptions travels as it is, without a copy', () => {
  const rows = [1, 2, 3].map((offset) => ({ offset, value: 'x', fate: 0 }));
  const { stream, batch } = split(rows, 'stream');
  expect(stream.payload.toString()).toBe('x\nx\nx\n');
  expect(stream.runs).toEqual([{ start: 1n, count: 3 }] satisfies Block['runs']);
  expect([batch.payload.length, batch.runs, batch.altered]).toEqual([0, [], []]);
  const lines = linesOf(rows);
  const none = { positions: new Uint32Array(), verdicts: new Int16Array() };
  const whole = splitLines(lines, { exceptions: none, rules: [3], dead: 0 }, 'stream');
  expect(whole.stream.payload.buffer).toBe(lines.text.buffer);
});

it('records that were refused count as dead', () => {
  const lines: Lines = {
    ...linesOf([]),
    refused: [{ offset: 1n, code: 'tombstone', reason: '' }],
  };
  const none = { positions: new Uint32Array(), verdicts: new Int16Array() };
  expect(splitLines(lines, { exceptions: none, rules: [0], dead: 0 }, 'stream').counts).toEqual({
    stream: 0n,
    batch: 0n,
    dead: 1n,
    rules: [0n],
  });
});
