import { CoverageError } from './errors.ts';

/**
 * A half-open range `[from, to)` of source offsets. It may be empty: then it accounts for no record
 * and only carries a watermark forward.
 */
export interface Range {
  readonly from: bigint;
  readonly to: bigint;
}

/** `[3, 7)`, as ranges are written in logs and errors. */
export function formatRange({ from, to }: Range): string {
  return `[${from}, ${to})`;
}

/**
 * The one range that adjacent ranges cover together, in the order given.
 * @throws CoverageError `NOT_CONTIGUOUS` when one doesn't begin where the one before it ends.
 */
export function join(ranges: readonly Range[]): Range {
  const [first, ...rest] = ranges;
  if (first === undefined) {
    throw new CoverageError('NOT_CONTIGUOUS', 'No range was given to join.');
  }
  let { to } = first;
  for (const range of rest) {
    if (range.from !== to) {
      throw new CoverageError(
        'NOT_CONTIGUOUS',
        `${formatRange(range)} doesn't begin at ${to}, where the range before it ends.`,
      );
    }
    ({ to } = range);
  }
  return { from: first.from, to };
}
