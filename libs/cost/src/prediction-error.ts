/** Fine where the goals are; the last one holds the rest. */
const bounds = [
  0.01, 0.02, 0.03, 0.04, 0.05, 0.075, 0.1, 0.125, 0.15, 0.2, 0.25, 0.3, 0.4, 0.5, 0.75, 1, 2, 5,
];

/** @returns the smallest of some bounds that the relative error |predicted − measured| / measured doesn't pass */
export function errorBound(predicted: number, measured: number): number {
  const error = predicted === measured ? 0 : Math.abs(predicted - measured) / measured;
  return bounds.find((bound) => error <= bound) ?? Infinity;
}
