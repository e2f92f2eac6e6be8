/** Of an even number of values the mean of the middle two; NaN of none. */
export function median(values: readonly number[]): number {
  const sorted = values.toSorted((a, b) => a - b);
  const middle = sorted.length / 2;
  return Number.isInteger(middle)
    ? ((sorted[middle - 1] ?? Number.NaN) + (sorted[middle] ?? Number.NaN)) / 2
    : (sorted[Math.floor(middle)] ?? Number.NaN);
}

/**
 * The smallest value that at least this share of the values doesn't exceed; NaN of none.
 * @param share from 0 to 1
 */
export function quantile(values: readonly number[], share: number): number {
  const sorted = values.toSorted((a, b) => a - b);
  return sorted[Math.max(0, Math.ceil(sorted.length * share) - 1)] ?? Number.NaN;
}

/** Smallest and largest; NaN of none. */
export function range(values: readonly number[]): {
  readonly least: number;
  readonly most: number;
} {
  return values.length === 0
    ? { least: Number.NaN, most: Number.NaN }
    : { least: Math.min(...values), most: Math.max(...values) };
}

/**
 * Ratios of runs that were made in turn: each of ours to the peer's of the same round, since a slow
 * minute of the machine hits both. Rounds that one of them lacks don't count.
 */
export function pairedRatios(
  ours: readonly (number | null)[],
  theirs: readonly (number | null)[],
): number[] {
  return ours.flatMap((own, round) => {
    const other = theirs[round] ?? null;
    return own === null || other === null || other === 0 ? [] : [own / other];
  });
}
