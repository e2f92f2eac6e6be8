import { expect, it } from 'vitest';
import { goals, judge, type Trial } from './goals.ts';

/** @param cpu seconds in all per million records when warm, a third of it in each of three processes */
function trial(round: number, name: string, cpu: number, rate = 100_000): Trial {
  const third = { seconds: cpu / 3, threads: {} };
  const costs = { app: third, broker: third, postgres: third };
  return {
    round,
    name,
    throughput: {
      records: 2_000_000,
      seconds: 20,
      startSeconds: 1,
      recordsPerSecond: rate,
      warmRecords: 1_000_000,
      warmRecordsPerSecond: rate,
      cost: { app: { seconds: 100, threads: {} }, broker: third, postgres: third },
      warmCost: costs,
      peakMemory: { app: 200, other: 100 },
      othersShare: 0,
    },
  };
}

const found = (trials: readonly Trial[], peer: string, measure: string) =>
  judge(trials).find(({ goal }) => goal.peer === peer && goal.measure === measure);

it('compares the CPU of all processes, and takes the median of the rounds', () => {
  const trials = [
    trial(0, 'ours w2 1s', 3),
    trial(0, 'node w2', 6),
    trial(1, 'ours w2 1s', 6),
    trial(1, 'node w2', 8),
    trial(2, 'ours w2 1s', 60),
    trial(2, 'node w2', 60),
  ];
  const cpu = found(trials, 'node w2', 'cpu');
  expect(cpu?.ratios).toEqual([0.5, 0.75, 1]);
  expect(cpu).toMatchObject({ median: 0.75, isMet: false });
  expect(
    found([trial(0, 'ours w2 1s', 4.1), trial(0, 'node w2', 6)], 'node w2', 'cpu')?.isMet,
  ).toBe(true);
});

it('wants rates to be higher, and CPU and memory to be lower', () => {
  const trials = [trial(0, 'ours w2 1s', 3, 150_000), trial(0, 'flink w2 1s', 3, 100_000)];
  expect(found(trials, 'flink w2 1s', 'rate')).toMatchObject({ median: 1.5, isMet: true });
  expect(found(trials.toReversed(), 'flink w2 1s', 'memory')).toMatchObject({
    median: 1,
    isMet: false,
  });
  const slower = [trial(0, 'ours w2 1s', 3, 90_000), trial(0, 'flink w2 1s', 3, 100_000)];
  expect(found(slower, 'flink w2 1s', 'rate')?.isMet).toBe(false);
});

it('judges only goals of which both sides were run', () => {
  expect(judge([trial(0, 'ours w1', 3), trial(0, 'node w1', 6)]).map(({ goal }) => goal)).toEqual(
    goals.filter(({ ours, peer }) => ours === 'ours w1' && peer === 'node w1'),
  );
  expect(judge([])).toEqual([]);
});
