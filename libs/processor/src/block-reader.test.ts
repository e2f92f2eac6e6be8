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
    expect(reader.position).toBeNull();
    expect(reader.take(message(4n, 6n, 4n))?.to).toBe(6n);
    expect(reader.take(message(4n, 6n, 4n))).toBeNull();
    expect(reader.take(message(6n, 6n, 4n))?.to).toBe(6n);
    expect(reader.position).toEqual({ epoch: 0n, next: 6n });
  });

  it('refuses a gap, an overlap and what is no block, and stays where it was', () => {
    const reader = blockReader(encodeProcessorPosition({ epoch: 0n, next: 5n }), 'orders/0');
    expect(() => reader?.take(message(6n, 7n))).toThrow(CoverageError);
    expect(() => reader?.take(message(4n, 7n))).toThrow(CoverageError);
    expect(() => reader?.take(Buffer.from('nonsense'))).toThrow(ContractError);
    expect(reader?.position).toEqual({ epoch: 0n, next: 5n });
  });

  it('does not go on from a position that is not its own', () => {
    expect(blockReader('origin=1 highest=none', 'orders/0')).toBeNull();
    expect(blockReader(null, 'orders/0')?.position).toBeNull();
  });

  it('takes nothing for a replay that ingest wrote after it had begun anew', () => {
    const begun = (epoch: bigint, from: bigint, to: bigint): Buffer =>
      encodeBlock(testBlock({ from, to, origin: 0n, epoch }));
    const reader = new BlockReader(null, 'orders/0');
    reader.take(begun(7n, 0n, 5n));
    expect(reader.take(begun(7n, 0n, 5n))).toBeNull();
    expect(() => reader.take(begun(8n, 0n, 3n))).toThrow(
      'ingest has begun anew at source offset 0, and [0, 5) were taken before',
    );
    expect(() => reader.take(begun(8n, 5n, 6n))).toThrow(CoverageError);
    expect(reader.position).toEqual({ epoch: 7n, next: 5n });
    // Also where the former blocks are from before there were epochs.
    const older = blockReader('next=5', 'orders/0');
    expect(older?.take(begun(0n, 5n, 6n))?.to).toBe(6n);
    expect(() => older?.take(begun(8n, 0n, 3n))).toThrow(CoverageError);
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
