import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { Fit } from './fit.ts';

const size = fc.integer({ min: 1, max: 100_000 });
const cost = fc.double({ min: 1e-7, max: 1e-3, noNaN: true });
const fixedPart = fc.double({ min: 0, max: 0.5, noNaN: true });
const close = (found: number, expected: number, share = 0.02): boolean =>
  Math.abs(found - expected) <= share * expected;

describe('a fit', () => {
  it('finds the fixed part and the cost of a unit, whatever they are', () => {
    fc.assert(
      fc.property(
        fixedPart,
        cost,
        fc.uniqueArray(size, { minLength: 60 }),
        (fixed, each, sizes) => {
          const fit = new Fit();
          for (const x of [...sizes, ...sizes]) {
            fit.observe(x, fixed + each * x);
          }
          // What it is asked for: the seconds of steps of the sizes that it has seen.
          return sizes.every((x) => close(fit.predict(x), fixed + each * x, 0.05));
        },
      ),
    );
  });

  it('is never negative, whatever it is fed', () => {
    const seconds = fc.double({ min: 0, max: 1e4, noNaN: true });
    fc.assert(
      fc.property(fc.array(fc.tuple(fc.nat({ max: 1e9 }), seconds)), fc.nat(), (samples, x) => {
        const fit = new Fit();
        for (const [at, y] of samples) {
          fit.observe(at, y);
        }
        const { fixed, each } = fit.line();
        return fixed >= 0 && each >= 0 && Number.isFinite(fit.predict(x));
      }),
    );
  });

  it('is moved by a tenth of outliers, each fifty times too slow, by less than a tenth', () => {
    const usualSize = fc.integer({ min: 500, max: 20_000 });
    fc.assert(
      fc.property(cost, fc.uniqueArray(usualSize, { minLength: 100 }), (each, sizes) => {
        const fit = new Fit();
        [...sizes, ...sizes, ...sizes].forEach((x, i) => {
          const usual = (0.01 + each * x) * (1 + 0.1 * Math.sin(i));
          fit.observe(x, i % 10 === 5 ? 50 * usual : usual);
        });
        const middle = sizes.toSorted((a, b) => a - b)[Math.floor(sizes.length / 2)] ?? 0;
        return close(fit.predict(middle), 0.01 + each * middle, 0.1);
      }),
    );
  });

  it('follows when all becomes three times slower, and back', () => {
    const fit = new Fit();
    const run = (factor: number): void => {
      for (let i = 0; i < 600; i++) {
        const x = 500 + (i % 7) * 300;
        fit.observe(x, factor * (0.004 + x * 1e-5) * (1 + 0.1 * Math.sin(i)));
      }
    };
    for (const factor of [1, 3, 1]) {
      run(factor);
      expect(fit.predict(1000) / (factor * 0.014)).toBeCloseTo(1, 1);
    }
  });

  it('takes all for the cost of a unit while the sizes are the same', () => {
    const fit = new Fit();
    for (let i = 0; i < 50; i++) {
      fit.observe(1000, 0.01);
    }
    expect(fit.predict(1000)).toBeCloseTo(0.01, 6);
    expect(fit.predict(2000)).toBeCloseTo(0.02, 6);
  });
});
