import type { StepCost } from './partial.ts';

type Counts = 'bytes' | 'records' | 'rows';

/** The cost of a step that has just ended, from what was measured of it: counts, and seconds a stage. */
export function stepCost(
  measured: Pick<StepCost, 'service' | 'load' | 'preprocess' | 'process' | 'store'> &
    Readonly<Record<Counts, number>>,
  where: Pick<StepCost, 'instance' | 'source' | 'branch'>,
): StepCost {
  return {
    ...measured,
    ...where,
    finishedAt: BigInt(Date.now()),
    steps: 1n,
    bytes: BigInt(measured.bytes),
    records: BigInt(measured.records),
    rows: BigInt(measured.rows),
  };
}
