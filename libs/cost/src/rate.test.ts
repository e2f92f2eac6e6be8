import { expect, it } from 'vitest';
import { Rate } from './rate.ts';

it('a rate is what comes per second, and falls to nothing in silence', () => {
  const rate = new Rate();
  for (let at = 0; at < 100; at += 0.1) {
    rate.add(at, 50);
  }
  expect(rate.at(100) / 500).toBeCloseTo(1, 1);
  expect(rate.at(110) / 500).toBeCloseTo(0.37, 1);
  expect(rate.at(200)).toBeLessThan(0.1);
  expect(new Rate().at(5)).toBe(0);
});
