import { recordBatch } from '@anabranch/contract/testing';
import { describe, expect, it } from 'vitest';
import { deadLetters, deathsOf } from './dead-letters.ts';
import { type Lines, readLines } from './lines.ts';

const death = { code: 'malformed', reason: 'No JSON.' };

describe('a dead letter', () => {
  it('keeps key, headers and value byte for byte, by its coordinates', () => {
    const value = Buffer.from('\u{FEFF}{\n"a":\r\n\xff', 'latin1');
    const letters = deadLetters(
      [
        recordBatch([
          { offset: 3, value: Buffer.from('fine') },
          { offset: 4, value, key: Buffer.of(0, 255), timestamp: 77, headers: [['h', null]] },
        ]),
        recordBatch(
          [
            {
              offset: 9,
              value: null,
              key: null,
              timestamp: 78,
              headers: [
                ['h', Buffer.from('a')],
                ['h', Buffer.from('b')],
              ],
            },
            { offset: 10, value: Buffer.from('fine') },
          ],
          'zstd',
        ),
      ],
      new Map([
        [9, { code: 'tombstone', reason: 'None.' }],
        [4, death],
      ]),
    );
    expect(letters).toEqual([
      {
        ...death,
        offset: 4n,
        timestamp: 77n,
        table: null,
        key: Buffer.of(0, 255),
        value,
        headers: [{ name: 'h', value: null }],
      },
      {
        code: 'tombstone',
        reason: 'None.',
        offset: 9n,
        timestamp: 78n,
        table: null,
        key: null,
        value: null,
        headers: [
          { name: 'h', value: Buffer.from('a') },
          { name: 'h', value: Buffer.from('b') },
        ],
      },
    ]);
  });

  it('has bytes of its own, so that it pins no fetched batch in memory', () => {
    const batch = recordBatch([
      { offset: 0, value: Buffer.from('value'), key: Buffer.from('key') },
    ]);
    const [letter] = deadLetters([batch], new Map([[0, death]]));
    batch.fill(0);
    expect([letter?.key?.toString(), letter?.value?.toString()]).toEqual(['key', 'value']);
  });

  it('has no timestamp where the producer gave none, or one that no database takes', () => {
    const timestamps = [-1, 0, 8.64e15, 8.64e15 + 2, -5000];
    const letters = deadLetters(
      [recordBatch(timestamps.map((timestamp, offset) => ({ offset, timestamp, value: null })))],
      new Map(timestamps.map((_, offset) => [offset, death])),
    );
    expect(letters.map(({ timestamp }) => timestamp)).toEqual([
      null,
      0n,
      8_640_000_000_000_000n,
      null,
      null,
    ]);
  });

  it('fits into a message, and says so when it had to be cut', () => {
    const key = Buffer.alloc(1024 * 1024, 'k');
    const value = Buffer.alloc(16 * 1024 * 1024, 'v');
    const [letter, whole] = deadLetters(
      [
        recordBatch([
          { offset: 0, key, value },
          { offset: 1, value },
        ]),
      ],
      new Map([
        [0, death],
        [1, death],
      ]),
    );
    expect(letter?.key?.length).toBe(key.length);
    expect(letter?.value?.length).toBe(15 * 1024 * 1024);
    expect(letter?.reason).toMatch(/^No JSON\. .*only the first 16777216 bytes are kept/);
    expect(whole?.value?.length).toBe(value.length);
    expect(whole?.reason).toBe('No JSON.');
  });
});

describe('the reason', () => {
  const [lines] = readLines(
    [
      recordBatch([
        { offset: 10, value: null },
        { offset: 12, value: Buffer.from('a') },
        { offset: 15, value: Buffer.from('b') },
        { offset: 16, value: Buffer.from('c') },
      ]),
    ],
    { from: 0n, to: 17n, maxRecordBytes: 10, headerNames: [], maxTextBytes: 100 },
  ) as [Lines];

  it('is found by coordinates, for refused records and for those that the classifier found dead', () => {
    const deaths = deathsOf(lines, {
      exceptions: { positions: Uint32Array.of(0, 1, 2), verdicts: Int16Array.of(-2, 0, -1) },
      reasons: [
        { code: 'missing', detail: 'No a.' },
        { code: 'nul', detail: 'A NUL.' },
      ],
    });
    expect([...deaths].map(([offset, { code }]) => [offset, code])).toEqual([
      [10, 'tombstone'],
      [12, 'nul'],
      [16, 'missing'],
    ]);
    expect(deaths.get(16)?.reason).toBe('No a.');
  });
});
