import { restoreValue } from '@anabranch/contract';
import { recordBatch, type TestCodec, type TestRecord } from '@anabranch/contract/testing';
import { KafkaError } from '@anabranch/kafka';
import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { type Lines, type LinesOptions, readLines } from './lines.ts';

const defaults: LinesOptions = {
  from: 0n,
  to: 1000n,
  maxRecordBytes: 1000,
  headerNames: [],
  maxTextBytes: 1_000_000,
};

function read(records: readonly TestRecord[], options: Partial<LinesOptions> = {}): Lines {
  const pieces = readLines([recordBatch(records)], { ...defaults, ...options });
  expect(pieces).toHaveLength(1);
  return pieces[0] as Lines;
}

const valued = (...values: (Buffer | string)[]): TestRecord[] =>
  values.map((value, offset) => ({ offset, value: Buffer.from(value) }));

/** The lines as their readers see them: cut where they begin and end. */
function linesOf({ count, text, starts }: Lines): Buffer[] {
  return Array.from({ length: count }, (_, i) =>
    text.subarray(starts[i], (starts[i + 1] ?? 0) - 1),
  );
}

/** The records' own bytes, from the lines and what was altered in them. */
function restored(lines: Lines): Buffer[] {
  const changes = new Map(lines.altered.map((change) => [change.record, change]));
  return linesOf(lines).map((line, i) => restoreValue(line, changes.get(i)));
}

describe('a value as a line', () => {
  it('leaves a value without a line feed as it is', () => {
    const lines = read(valued('{"a":1}', '', '{"b":\t"ü\\n"}\r', 'a\0b'));
    expect(lines.text.toString()).toBe('{"a":1}\n\n{"b":\t"ü\\n"}\r\na\0b\n');
    expect(lines.altered).toEqual([]);
    expect([...lines.starts]).toEqual([0, 8, 9, 24, 28]);
    expect([...lines.sizes]).toEqual([7, 0, 14, 3]);
  });

  it('makes one line of a pretty-printed value, that means the same', () => {
    const value = '{\r\n  "a": 1,\n  "b": [\n]\n}\n';
    const lines = read(valued(value));
    expect(lines.count).toBe(1);
    expect(lines.text.indexOf('\n')).toBe(lines.text.length - 1);
    expect(JSON.parse(lines.text.toString())).toEqual({ a: 1, b: [] });
    expect(lines.altered).toEqual([
      { record: 0, byteOrderMark: false, lineFeeds: [2, 12, 21, 23, 25] },
    ]);
  });

  it('never makes malformed JSON valid: a line feed within a string stays forbidden', () => {
    const lines = read(valued('{"a":"x\ny"}'));
    expect(() => JSON.parse('{"a":"x\ny"}') as unknown).toThrow(SyntaxError);
    expect(() => JSON.parse(lines.text.toString()) as unknown).toThrow(SyntaxError);
  });

  it('takes a byte order mark off, and only one at the start', () => {
    const lines = read(valued('\u{FEFF}{}', '\u{FEFF}', '{"a":"\u{FEFF}"}'));
    expect(linesOf(lines).map(String)).toEqual(['{}', '', '{"a":"\u{FEFF}"}']);
    expect(lines.altered).toEqual([
      { record: 0, byteOrderMark: true, lineFeeds: [] },
      { record: 1, byteOrderMark: true, lineFeeds: [] },
    ]);
    expect([...lines.sizes]).toEqual([5, 3, 11]);
  });

  it('can be turned back into the bytes that were produced, whatever they are', () => {
    const piece = fc.oneof(
      fc.constantFrom('\n', '\r\n', '\r', '\u{FEFF}', '\0', '{', '"', ' '),
      fc.string({ unit: 'grapheme', maxLength: 5 }),
    );
    const value = fc.array(piece, { maxLength: 8 }).map((pieces) => pieces.join(''));
    fc.assert(
      fc.property(
        fc.array(value, { maxLength: 20 }),
        fc.constantFrom<TestCodec>('none', 'gzip', 'zstd'),
        fc.integer({ min: 1, max: 60 }),
        (values, codec, maxTextBytes) => {
          const batches = values.length === 0 ? [] : [recordBatch(valued(...values), codec)];
          const pieces = readLines(batches, { ...defaults, maxTextBytes });
          expect(pieces.flatMap(restored).map(String)).toEqual(
            values.map((text) => Buffer.from(text).toString()),
          );
          for (const { text, count } of pieces) {
            expect(text.toString().split('\n')).toHaveLength(count + 1);
          }
        },
      ),
    );
  });
});

describe('a record that is refused', () => {
  it('is told by its offset and reason, and leaves its neighbours alone', () => {
    const lines = read(
      [
        { offset: 5, value: Buffer.from('a'), timestamp: 1 },
        { offset: 6, value: null, timestamp: 2 },
        { offset: 7, value: Buffer.alloc(1001, 'x'), timestamp: 9 },
        { offset: 8, value: Buffer.alloc(1000, 'b'), timestamp: 4 },
      ],
      { from: 5n },
    );
    expect(linesOf(lines).map(({ length }) => length)).toEqual([1, 1000]);
    expect([...lines.offsets]).toEqual([5, 8]);
    expect([...lines.timestamps]).toEqual([1, 4]);
    expect(lines.refused.map(({ offset, code }) => [offset, code])).toEqual([
      [6n, 'tombstone'],
      [7n, 'too-large'],
    ]);
    expect(lines.refused[1]?.reason).toContain('1001');
    expect(lines.producedAt).toBe(9);
  });

  it('is one that is not UTF-8, alone, with headers and changes of the others in their places', () => {
    const header = (text: string): (readonly [string, Buffer])[] => [['h', Buffer.from(text)]];
    const bad = [
      Buffer.from([0x7b, 0xff]),
      Buffer.from([0xc3]),
      Buffer.from([0xa9]),
      Buffer.from([0xed, 0xa0, 0x80]),
    ];
    const lines = read(
      [
        { offset: 0, value: bad[0] as Buffer, headers: header('lost') },
        { offset: 1, value: Buffer.from('{\n}'), headers: header('one') },
        // Two halves of one character, in two values.
        { offset: 2, value: bad[1] as Buffer },
        { offset: 3, value: bad[2] as Buffer },
        { offset: 5, value: Buffer.from('\u{FEFF}ü'), timestamp: 3 },
        { offset: 6, value: bad[3] as Buffer },
        { offset: 7, value: Buffer.from('z'), headers: header('two') },
      ],
      { headerNames: ['h'] },
    );
    expect(restored(lines).map(String)).toEqual(['{\n}', '\u{FEFF}ü', 'z']);
    expect([...lines.offsets]).toEqual([1, 5, 7]);
    expect([...lines.timestamps]).toEqual([0, 3, 0]);
    expect([...lines.sizes]).toEqual([3, 5, 1]);
    expect(lines.headers?.get('h')).toEqual(['one', null, 'two']);
    expect(lines.refused.map(({ offset, code }) => [offset, code])).toEqual([
      [0n, 'not-utf8'],
      [2n, 'not-utf8'],
      [3n, 'not-utf8'],
      [6n, 'not-utf8'],
    ]);
  });

  it('is one whose line breaks would not fit beside it into a message', () => {
    const lines = read(valued(`[${'\n'.repeat(200_001)}]`, `[${'\n'.repeat(200_000)}]`, '1'), {
      maxRecordBytes: 300_000,
    });
    expect(lines.refused.map(({ offset, code }) => [offset, code])).toEqual([
      [0n, 'too-many-lines'],
    ]);
    expect([...lines.offsets]).toEqual([1, 2]);
    expect(restored(lines).map(({ length }) => length)).toEqual([200_002, 1]);
  });
});

describe('what is known beside the lines', () => {
  it('has the offsets of the records that are there, from the expected one on', () => {
    const records = [3, 4, 7, 20].map((offset) => ({ offset, value: Buffer.from(`${offset}`) }));
    const lines = read(records, { from: 4n });
    expect([...lines.offsets]).toEqual([4, 7, 20]);
    expect(linesOf(lines).map(String)).toEqual(['4', '7', '20']);
  });

  it('has the headers that rules ask for: null without one, the last of several, no NUL', () => {
    const lines = read(
      [
        { offset: 0, value: Buffer.from('a') },
        { offset: 1, value: Buffer.from('b'), headers: [['other', Buffer.from('x')]] },
        {
          offset: 2,
          value: Buffer.from('c'),
          headers: [
            ['bulk', Buffer.from('first')],
            ['more', null],
            ['bulk', Buffer.from('la\0st')],
          ],
        },
        { offset: 3, value: Buffer.from('d') },
      ],
      { headerNames: ['bulk', 'more'] },
    );
    expect(lines.headers?.get('bulk')).toEqual([null, null, 'la\u{FFFD}st', null]);
    expect(lines.headers?.get('more')).toEqual([null, null, null, null]);
    expect([...(lines.headers?.keys() ?? [])]).toEqual(['bulk', 'more']);
  });

  it('has no headers where no record has a wanted one', () => {
    const records: TestRecord[] = [
      { offset: 0, value: Buffer.from('a'), headers: [['other', Buffer.from('x')]] },
    ];
    expect(read(records, { headerNames: ['bulk'] }).headers).toBeNull();
    expect(read(records).headers).toBeNull();
  });

  it('grows with the number of records', () => {
    const count = 5000;
    const lines = read(
      Array.from({ length: count }, (_, offset) => ({
        offset,
        value: Buffer.from(String(offset)),
        timestamp: offset * 2,
      })),
    );
    expect(linesOf(lines).map(Number)).toEqual([...lines.offsets]);
    expect(lines.offsets[count - 1]).toBe(count - 1);
    expect(lines.timestamps[count - 1]).toBe(2 * count - 2);
  });
});

describe('pieces', () => {
  it('tile the offsets, and none is longer than a text unless by a single record', () => {
    const record = fc.record({
      gap: fc.nat({ max: 3 }),
      value: fc.option(fc.string({ maxLength: 40 })),
    });
    fc.assert(
      fc.property(
        fc.array(record, { maxLength: 30 }),
        fc.constantFrom<TestCodec>('none', 'zstd'),
        fc.integer({ min: 1, max: 50 }),
        fc.nat({ max: 20 }),
        (sample, codec, maxTextBytes, from) => {
          let offset = 0;
          const records = sample.map(({ gap, value }) => ({
            offset: (offset += gap + 1),
            value: value === null ? null : Buffer.from(value),
          }));
          const to = BigInt(offset + 5);
          const pieces = readLines(records.length === 0 ? [] : [recordBatch(records, codec)], {
            ...defaults,
            from: BigInt(from),
            to: to > from ? to : BigInt(from),
            maxRecordBytes: 30,
            maxTextBytes,
          });
          expect(pieces[0]?.from).toBe(BigInt(from));
          expect(pieces.at(-1)?.to).toBe(to > from ? to : BigInt(from));
          pieces.forEach((piece, i) => {
            expect(piece.from).toBe(pieces[i - 1]?.to ?? piece.from);
            for (const at of [
              ...piece.offsets,
              ...piece.refused.map(({ offset: refused }) => Number(refused)),
            ]) {
              expect(at >= piece.from && at < piece.to).toBe(true);
            }
            expect(piece.text.length <= maxTextBytes || piece.count === 1).toBe(true);
          });
          const seen = pieces.flatMap(({ offsets, refused }) => [
            ...offsets,
            ...refused.map(({ offset: at }) => Number(at)),
          ]);
          expect(seen.toSorted((a, b) => a - b)).toEqual(
            records.map((one) => one.offset).filter((at) => at >= from),
          );
        },
      ),
    );
  });

  it('keep headers with their own lines', () => {
    const records: TestRecord[] = ['aaaa', 'bbbb', 'cccc'].map((value, offset) => ({
      offset,
      value: Buffer.from(value),
      headers: offset === 1 ? [] : [['h', Buffer.from(value)]],
    }));
    const pieces = readLines([recordBatch(records)], {
      ...defaults,
      headerNames: ['h'],
      maxTextBytes: 10,
    });
    expect(pieces.map(({ headers }) => headers?.get('h'))).toEqual([['aaaa', null], ['cccc']]);
  });

  it('end where their line breaks fill a message, though the text does not', () => {
    const value = Buffer.from(`[${'\n'.repeat(150_000)}]`);
    const batch = recordBatch([0, 1, 2].map((offset) => ({ offset, value })));
    const pieces = readLines([batch], {
      ...defaults,
      maxRecordBytes: 200_000,
      maxTextBytes: 10_000_000,
    });
    expect(pieces.map(({ count }) => count)).toEqual([2, 1]);
  });
});

it('a batch that is damaged is an error, not a loss', () => {
  const batch = recordBatch(valued('a'));
  batch[batch.length - 2] = 1;
  expect(() => readLines([batch], defaults)).toThrow(KafkaError);
});
