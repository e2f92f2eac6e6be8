import { ContractError, encodeBlock, encodeProcessorPosition } from '@anabranch/contract';
import { testBlock } from '@anabranch/contract/testing';
import { CoverageError } from '@anabranch/coverage';
import { describe, expect, it } from 'vitest';
import { BlockReader, blockReader, coverageOf } from './block-reader.ts';

const message = (from: bigint, to: bigint, origin = 0n): Buffer =>
  encodeBlock(testBlock({ from, to, origin }));

describe('a reader of blocks', () => {
  it('takes each block once, from the origin on', () => {
    const reader = new BlockReader(null, 'orders/0');
    expect(reader.next).toBeNull();
    expect(reader.take(message(4n, 6n, 4n))?.to).toBe(6n);
    expect(reader.take(message(4n, 6n, 4n))).toBeNull();
    expect(reader.take(message(6n, 6n, 4n))?.to).toBe(6n);
    expect(reader.next).toBe(6n);
  });

  it('refuses a gap, an overlap and what is no block, and stays where it was', () => {
    const reader = blockReader(encodeProcessorPosition({ next: 5n }), 'orders/0');
    expect(() => reader?.take(message(6n, 7n))).toThrow(CoverageError);
    expect(() => reader?.take(message(4n, 7n))).toThrow(CoverageError);
    expect(() => reader?.take(Buffer.from('nonsense'))).toThrow(ContractError);
    expect(reader?.next).toBe(5n);
  });

  it('does not go on from a position that is not its own', () => {
    expect(blockReader('origin=1 highest=none', 'orders/0')).toBeNull();
    expect(blockReader(null, 'orders/0')?.next).toBeNull();
  });
});

describe('the coverage of blocks', () => {
  it('goes from the first to the last, with the last watermark and the sum of the counts', () => {
    const split = { stream: 1n, batch: 2n, dead: 3n, rules: [2n, 4n] };
    const joined = coverageOf([
      testBlock({ from: 1n, to: 4n, origin: 1n, watermark: 5n, split }),
      testBlock({ from: 4n, to: 4n, origin: 1n, watermark: 9n, split, epoch: 3n }),
    ]);
    expect(joined).toEqual({
      source: 'orders',
      partition: 0,
      origin: 1n,
      from: 1n,
      to: 4n,
      epoch: 3n,
      watermark: 9n,
      definition: 'v1',
      split: { stream: 2n, batch: 4n, dead: 6n, rules: [4n, 8n] },
    });
  });

  it('exists only of blocks that are adjacent', () => {
    expect(() => coverageOf([])).toThrow(CoverageError);
    expect(() =>
      coverageOf([testBlock({ from: 1n, to: 4n }), testBlock({ from: 5n, to: 6n })]),
    ).toThrow(CoverageError);
  });
});
