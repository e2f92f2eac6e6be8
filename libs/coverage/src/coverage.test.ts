import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import {
  ceiling,
  CoverageError,
  Frontier,
  highestWhenIdle,
  join,
  judge,
  later,
  type Range,
  watermark,
} from './index.ts';

const offset = fc.bigInt({ min: 0n, max: 200n });
const range = fc
  .tuple(offset, offset)
  .map(([a, b]): Range => (a <= b ? { from: a, to: b } : { from: b, to: a }));

/** Ranges that tile `[origin, …)`, as ingest writes them. */
const tiling = fc
  .record({
    origin: fc.bigInt({ min: 0n, max: 50n }),
    sizes: fc.array(fc.bigInt({ min: 0n, max: 5n }), { minLength: 1, maxLength: 12 }),
  })
  .map(({ origin, sizes }) => {
    let from = origin;
    const ranges = sizes.map((size): Range => {
      const to = from + size;
      const next = { from, to };
      from = to;
      return next;
    });
    return { origin, ranges };
  });

describe('the merge law', () => {
  it('gives every range exactly one verdict, and only what begins at the frontier merges', () => {
    fc.assert(
      fc.property(offset, range, (next, candidate) => {
        const verdict = judge(next, candidate);
        expect(verdict === 'merge').toBe(candidate.from === next);
        if (verdict === 'replay') {
          expect(candidate.to <= next).toBe(true);
        }
        if (verdict === 'gap') {
          expect(candidate.from > next).toBe(true);
        }
        if (verdict === 'overlap') {
          expect(candidate.from < next && candidate.to > next).toBe(true);
        }
      }),
    );
  });

  it('applies every offset exactly once however often and wherever a reader starts over', () => {
    fc.assert(
      fc.property(
        tiling,
        fc.array(fc.nat({ max: 11 }), { maxLength: 6 }),
        ({ origin, ranges }, restarts) => {
          const frontier = new Frontier(null);
          const applied: Range[] = [];
          const read = (from: number): void => {
            for (const next of ranges.slice(from)) {
              if (frontier.take(next, origin, 'p0')) {
                applied.push(next);
              }
            }
          };
          read(0);
          for (const restart of restarts) {
            // What a restarted reader sees again begins at most where the frontier is.
            read(restart % ranges.length);
          }
          // Empty ranges at the frontier merge as often as they come, and account for nothing.
          let next = origin;
          for (const { from, to } of applied.filter((one) => one.from !== one.to)) {
            expect(from).toBe(next);
            next = to;
          }
          expect(next).toBe(ranges.at(-1)?.to);
          expect(frontier.next).toBe(next);
        },
      ),
    );
  });

  it('halts on a gap and on an overlap, names the range, and stays where it was', () => {
    fc.assert(
      fc.property(offset, range, (next, candidate) => {
        const frontier = new Frontier(next);
        const verdict = judge(next, candidate);
        if (verdict === 'gap' || verdict === 'overlap') {
          expect(() => frontier.take(candidate, 0n, 'orders/0 stream')).toThrow(CoverageError);
          expect(frontier.next).toBe(next);
        } else {
          expect(frontier.take(candidate, 0n, 'orders/0 stream')).toBe(verdict === 'merge');
        }
      }),
    );
    expect(() => new Frontier(5n).take({ from: 8n, to: 9n }, 0n, 'orders/0 stream')).toThrow(
      'orders/0 stream: source offsets [5, 8) are missing in front of [8, 9).',
    );
  });

  it('finds what is lost in front of a reader that has no position yet', () => {
    expect(() => new Frontier(null).take({ from: 7n, to: 9n }, 4n, 'orders/0 stream')).toThrow(
      '[4, 7) are missing',
    );
    expect(new Frontier(null).take({ from: 4n, to: 9n }, 4n, 'orders/0 stream')).toBe(true);
  });

  it('joins only what tiles', () => {
    expect(
      join([
        { from: 1n, to: 3n },
        { from: 3n, to: 3n },
        { from: 3n, to: 9n },
      ]),
    ).toEqual({ from: 1n, to: 9n });
    expect(() =>
      join([
        { from: 1n, to: 3n },
        { from: 4n, to: 9n },
      ]),
    ).toThrow(CoverageError);
    expect(() => join([])).toThrow(CoverageError);
  });
});

describe('the watermark', () => {
  it('never falls, whatever order event times come in', () => {
    fc.assert(
      fc.property(fc.array(fc.bigInt({ min: -(2n ** 60n), max: 2n ** 60n })), (times) => {
        let highest: bigint | null = null;
        for (const time of times) {
          const before: bigint | null = watermark(highest, 5000);
          highest = later(highest, time);
          const after = watermark(highest, 5000);
          expect(before === null || (after !== null && after >= before)).toBe(true);
        }
      }),
    );
  });

  it('is the largest event time minus the disorder, and unknown before the first record', () => {
    expect(watermark(10_000_000n, 5000)).toBe(5_000_000n);
    expect(watermark(null, 5000)).toBeNull();
  });

  it('takes no event time beyond now plus the allowed skew at its word', () => {
    expect(ceiling(1000, 60_000)).toBe(61_000_000n);
  });

  it('follows the clock when idle, and only forward', () => {
    expect(highestWhenIdle(null, 20_000, 10_000)).toBe(10_000_000n);
    expect(highestWhenIdle(50_000_000n, 20_000, 10_000)).toBe(50_000_000n);
    expect(highestWhenIdle(1n, 20_000, 10_000)).toBe(10_000_000n);
  });
});
