import { expect, it } from 'vitest';
import { median, pairedRatios, quantile, range } from './statistics.ts';

it('takes the middle one, or the mean of the middle two', () => {
  expect(median([9, 1, 5])).toBe(5);
  expect(median([9, 1, 5, 6])).toBe(5.5);
  expect(median([])).toBeNaN();
});

it('takes the quantile that at most the rest exceeds', () => {
  const hundred = Array.from({ length: 100 }, (_, i) => 100 - i);
  expect(quantile(hundred, 0.5)).toBe(50);
  expect(quantile(hundred, 0.99)).toBe(99);
  expect(quantile(hundred, 1)).toBe(100);
  expect(quantile([7], 0.99)).toBe(7);
  expect(quantile([], 0.5)).toBeNaN();
});

it('tells the smallest from the largest', () => {
  expect(range([3, 1, 2])).toEqual({ least: 1, most: 3 });
  expect(range([]).least).toBeNaN();
});

it('compares runs of the same round only', () => {
  // The machine was half as fast in the second round, for both.
  expect(pairedRatios([10, 20], [20, 40])).toEqual([0.5, 0.5]);
  expect(pairedRatios([10, null, 30], [20, 40])).toEqual([0.5]);
  expect(pairedRatios([10], [0])).toEqual([]);
});
