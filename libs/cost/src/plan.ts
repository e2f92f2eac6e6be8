import type { StepModel } from './step-model.ts';

/** Of the latency goal, for the micro-batch: the rest is for ingest and for fusion. */
const streamShare = 0.5;
/** An instance that is busy for longer than this share of the time has nothing left for a burst. */
export const fullLoad = 0.8;
/** Predictions of a run end too early as often as too late. */
const runMargin = 0.25;
/** Of the freshness, for fusion, and for what a run waits on. */
const freshMargin = 0.05;
/** The stream has caught up once it is predicted to be this much faster than the goal. */
const backBelow = 0.5;

/** In seconds. */
const leastGather = 0.001;
/** A step this many times as long as the smallest one pays a tenth of its time for the fixed part. */
const worthItsFixedPart = 10;

export interface MicroBatch {
  /** How long to gather, in milliseconds. */
  readonly gatherMilliseconds: number;
  /** At most, in one step. */
  readonly records: number;
  readonly bytes: number;
  /** Of a step after gathering, in seconds, at the present rate. */
  readonly predictedSeconds: number;
}

/**
 * The largest micro-batch with which a record still gets through the processor in its share of the latency goal.
 * Larger ones cost less per record, since each pays the fixed part once.
 * @param goal milliseconds from a record's arrival to its row in Postgres
 * @param recordsPerSecond present rate
 * @param mostBytes of a step
 * @returns null until enough steps were seen
 */
export function microBatch(
  model: StepModel,
  goal: number,
  recordsPerSecond: number,
  mostBytes: number,
): MicroBatch | null {
  const budget = (goal * streamShare) / 1000;
  const smallest = model.secondsOf(1);
  if (smallest === null) {
    return null;
  }
  const secondsOf = (records: number): number => model.secondsOf(Math.ceil(records)) ?? Infinity;
  // A record that comes first waits for the gathering, and for the step; while a step runs, the next one gathers.
  const fits = (seconds: number): boolean =>
    seconds + secondsOf(seconds * recordsPerSecond) <= budget;
  // Where nothing fits the goal is missed anyway: then no more often than needed.
  const gather = fits(leastGather) ? largest(leastGather, budget, fits) : budget;
  const mostRecords = Math.max(1, mostBytes / bytesPerRecord(model));
  const longest = Math.max(budget, worthItsFixedPart * smallest);
  const records = Math.floor(largest(1, mostRecords, (count) => secondsOf(count) <= longest));
  return {
    gatherMilliseconds: Math.max(1, Math.round(gather * 1000)),
    records,
    bytes: Math.ceil(Math.min(mostBytes, model.bytesOf(records))),
    predictedSeconds: secondsOf(gather * recordsPerSecond),
  };
}

function bytesPerRecord(model: StepModel): number {
  return Math.max(1, model.bytesOf(1000) / 1000);
}

/** The largest number from `low` to `high` that fits, where all below one that fits do; `low` when none does. */
function largest(low: number, high: number, fits: (value: number) => boolean): number {
  if (fits(high)) {
    return high;
  }
  let [fitting, failing] = [low, high];
  for (let i = 0; i < 24; i++) {
    const middle = (fitting + failing) / 2;
    if (fits(middle)) {
      fitting = middle;
    } else {
      failing = middle;
    }
  }
  return fitting;
}

/** Longer steps would be more efficient still, but nobody would run them so. */
const longestSeconds = 1;

/**
 * Records a second that one instance sustains, with steps of up to this size and a second.
 * @returns null until enough steps were seen
 */
export function sustained(model: StepModel, stepBytes: number): number | null {
  const smallest = model.secondsOf(1);
  if (smallest === null) {
    return null;
  }
  const most = Math.max(1, stepBytes / bytesPerRecord(model));
  const longest = Math.max(longestSeconds, worthItsFixedPart * smallest);
  const secondsOf = (count: number): number => model.secondsOf(count) ?? Infinity;
  const records = Math.ceil(largest(1, most, (count) => secondsOf(count) <= longest));
  const seconds = model.secondsOf(records);
  return seconds === null || seconds <= 0 ? null : records / seconds;
}

/**
 * When a run must begin, so that it ends before the oldest record that waits has waited for longer than `within`.
 * @param arrivedAt of that record, milliseconds since 1970
 * @param within milliseconds
 * @param predictedSeconds of the run; null: not known, so half of the time is left to it
 * @returns milliseconds since 1970
 */
export function latestStart(
  arrivedAt: number,
  within: number,
  predictedSeconds: number | null,
): number {
  const run =
    predictedSeconds === null
      ? within / 2
      : predictedSeconds * 1000 * (1 + runMargin) + within * freshMargin;
  return arrivedAt + Math.max(0, within - run);
}

/**
 * Whether to divert what follows: on above the goal, off only well below it.
 * @param delay predicted, in seconds; null: unknown, so everything stays as it is
 * @param goal milliseconds
 */
export function shouldDivert(diverting: boolean, delay: number | null, goal: number): boolean {
  if (delay === null) {
    return diverting;
  }
  return diverting ? delay * 1000 > goal * backBelow : delay * 1000 > goal;
}
