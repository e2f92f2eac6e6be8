import { expect, it } from 'vitest';
import { errorBound } from './prediction-error.ts';

it.each([
  [1, 1, 0.01],
  [0, 0, 0.01],
  [1.14, 1, 0.15],
  [1.16, 1, 0.2],
  [0.5, 1, 0.5],
  [9, 1, Infinity],
  [1, 0, Infinity],
])('a prediction of %d s where it took %d is off by at most %d', (predicted, measured, bound) => {
  expect(errorBound(predicted, measured)).toBe(bound);
});
