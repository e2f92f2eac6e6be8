import { formatNumber, markdown } from './markdown.ts';
import { median, pairedRatios, range } from './statistics.ts';
import { perMillion, type Throughput } from './throughput.ts';

/** One run in a series of runs in turn. */
export interface Trial {
  readonly round: number;
  /** Such as `ours w2 1s` or `flink w1`. */
  readonly name: string;
  readonly throughput: Throughput;
}

export type Measure = 'cpu' | 'rate' | 'cpu with its start' | 'memory';

/** A ratio that ours is to have to a peer, in one series. */
export interface Goal {
  readonly ours: string;
  readonly peer: string;
  readonly measure: Measure;
  readonly atMost?: number;
  readonly atLeast?: number;
}

export const goals: readonly Goal[] = [
  { ours: 'ours w2 1s', peer: 'node w2', measure: 'cpu', atMost: 0.7 },
  { ours: 'ours w2 1s', peer: 'node w2', measure: 'rate', atLeast: 1.5 },
  { ours: 'ours w2 1s', peer: 'flink w2 1s', measure: 'cpu', atMost: 1 },
  { ours: 'ours w2 1s', peer: 'flink w2 1s', measure: 'rate', atLeast: 1 },
  { ours: 'ours w2 250ms', peer: 'node w2', measure: 'cpu', atMost: 0.9 },
  { ours: 'ours w2 250ms', peer: 'flink w2 200ms', measure: 'cpu', atMost: 0.6 },
  { ours: 'ours w1k', peer: 'node w1', measure: 'cpu', atMost: 0.75 },
  { ours: 'ours w1k', peer: 'flink w1', measure: 'cpu', atMost: 0.8 },
  { ours: 'ours w1', peer: 'node w1', measure: 'cpu', atMost: 0.5 },
  { ours: 'ours w1', peer: 'flink w1', measure: 'cpu', atMost: 0.5 },
  { ours: 'ours w2 1s', peer: 'flink w2 1s', measure: 'cpu with its start', atMost: 0.25 },
  { ours: 'ours w2 1s', peer: 'flink w2 1s', measure: 'memory', atMost: 0.8 },
];

export interface Judgement {
  readonly goal: Goal;
  /** One per round. */
  readonly ratios: readonly number[];
  readonly median: number;
  readonly isMet: boolean;
}

/** The goals whose both sides were run. */
export function judge(trials: readonly Trial[]): Judgement[] {
  const rounds = Math.max(0, ...trials.map(({ round }) => round + 1));
  const figures = (name: string, measure: Measure): (number | null)[] =>
    Array.from({ length: rounds }, (_, round) => {
      const trial = trials.find(
        (candidate) => candidate.round === round && candidate.name === name,
      );
      return trial === undefined ? null : figureOf(trial.throughput, measure);
    });
  return goals.flatMap((goal) => {
    const ratios = pairedRatios(figures(goal.ours, goal.measure), figures(goal.peer, goal.measure));
    if (ratios.length === 0) {
      return [];
    }
    const middle = median(ratios);
    const { atMost = Number.POSITIVE_INFINITY, atLeast = 0 } = goal;
    return [{ goal, ratios, median: middle, isMet: middle <= atMost && middle >= atLeast }];
  });
}

/** CPU of all processes together per million records, records a second, or bytes; null: not known. */
function figureOf(throughput: Throughput, measure: Measure): number | null {
  switch (measure) {
    case 'cpu':
      return perMillion(throughput.warmCost, throughput.warmRecords);
    case 'cpu with its start':
      return perMillion(throughput.cost, throughput.records);
    case 'rate':
      return throughput.warmRecordsPerSecond;
    case 'memory':
      return memoryOf(throughput);
  }
}

/** Of all of a contender's processes, in bytes; null: not known. */
export function memoryOf({ peakMemory }: Throughput): number | null {
  return Object.values(peakMemory).reduce<number | null>(
    (sum, bytes) => (sum === null || bytes === null ? null : sum + bytes),
    0,
  );
}

export function goalsTable(judgements: readonly Judgement[]): string {
  return markdown(
    ['ours', 'to', 'measure', 'ratio', 'least–most', 'goal', 'met'],
    judgements.map(({ goal, ratios, median: middle, isMet }) => {
      const { least, most } = range(ratios);
      return [
        goal.ours,
        goal.peer,
        goal.measure,
        `${formatNumber(middle, 2)} ×`,
        `${formatNumber(least, 2)}–${formatNumber(most, 2)}`,
        goal.atMost === undefined
          ? `≥ ${formatNumber(goal.atLeast, 2)}`
          : `≤ ${formatNumber(goal.atMost, 2)}`,
        isMet ? 'yes' : 'no',
      ];
    }),
  );
}
