import { expect, it } from 'vitest';
import { blockOf, hopsOf } from './hops.ts';

const range = (partition: number, from: bigint, to: bigint, writtenAt: number) => ({
  partition,
  from,
  to,
  writtenAt,
});

it('finds the range that has an offset, its end excluded, of the same partition', () => {
  const ranges = [range(0, 0n, 10n, 1), range(1, 0n, 30n, 2), range(0, 10n, 20n, 3)];
  expect(blockOf(ranges, 0, 9n)?.writtenAt).toBe(1);
  expect(blockOf(ranges, 0, 10n)?.writtenAt).toBe(3);
  expect(blockOf(ranges, 1, 10n)?.writtenAt).toBe(2);
  expect(blockOf(ranges, 0, 20n)).toBeUndefined();
});

it('splits a latency into hops that add up to it', () => {
  const hops = hopsOf(1000, range(0, 0n, 1n, 1030), range(0, 0n, 1n, 1090), 1200);
  expect(hops).toEqual({ ingest: 30, processor: 60, fusion: 110 });
});
