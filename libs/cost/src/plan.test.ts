import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { latestStart, microBatch, shouldDivert, sustained } from './plan.ts';
import { processorUnits, StepModel } from './step-model.ts';

/** 10 ms a step and 5 µs a record of 100 bytes. */
const model = new StepModel(processorUnits);
for (let i = 0; i < 100; i++) {
  const records = 100 + ((i * 7919) % 5000);
  const stage = 0.0025 + records * 1.25e-6;
  const seconds = { load: stage, preprocess: stage, process: stage, store: stage };
  model.observe({ bytes: records * 100, records, rows: records }, seconds);
}
const mostBytes = 8_388_608;

describe('the size of micro-batches', () => {
  it('is the largest that meets the goal: what it gathers is through in half of it', () => {
    const rates = fc.integer({ min: 1, max: 120_000 });
    fc.assert(
      fc.property(rates, fc.integer({ min: 60, max: 5000 }), (rate, goal) => {
        const planned = microBatch(model, goal, rate, mostBytes);
        const milliseconds = (gather: number): number =>
          gather + 1000 * (model.secondsOf(Math.ceil((gather / 1000) * rate)) ?? 0);
        expect(milliseconds(planned?.gatherMilliseconds ?? 0)).toBeLessThanOrEqual(goal / 2 + 2);
        expect(milliseconds((planned?.gatherMilliseconds ?? 0) + 2)).toBeGreaterThan(goal / 2 - 1);
      }),
    );
  });

  it('grows with the goal, and shrinks with the rate', () => {
    const gather = (goal: number, rate: number): number =>
      microBatch(model, goal, rate, mostBytes)?.gatherMilliseconds ?? 0;
    expect(gather(1000, 10_000)).toBeGreaterThan(gather(250, 10_000));
    expect(gather(1000, 100_000)).toBeLessThan(gather(1000, 10_000));
  });

  it('bounds a step that has fallen behind by the goal and by the memory', () => {
    expect(microBatch(model, 500, 1e7, mostBytes)?.records).toBeLessThanOrEqual(49_000);
    expect(microBatch(model, 500, 1e7, mostBytes)?.records).toBeGreaterThan(45_000);
    expect(microBatch(model, 500, 1e7, 100_000)?.bytes).toBeLessThanOrEqual(100_000);
  });

  it('is as large as is worth it where no size meets the goal: many small steps would only fall behind', () => {
    const planned = microBatch(model, 10, 10_000, mostBytes);
    expect(planned?.gatherMilliseconds).toBe(5);
    // 100 ms, ten times the fixed part.
    expect((planned?.records ?? 0) / 18_000).toBeCloseTo(1, 1);
  });

  it('is unknown until steps were seen', () => {
    expect(microBatch(new StepModel(processorUnits), 500, 100, mostBytes)).toBeNull();
    expect(sustained(new StepModel(processorUnits), mostBytes)).toBeNull();
  });
});

it('an instance sustains what its largest steps take a second', () => {
  expect((sustained(model, 1_000_000) ?? 0) / (10_000 / 0.06)).toBeCloseTo(1, 1);
});

it('an instance whose steps have a long fixed part sustains what long steps take', () => {
  const slow = new StepModel(processorUnits);
  for (let i = 0; i < 100; i++) {
    const records = 100 + ((i * 7919) % 5000);
    const stage = 0.5 + records * 1.25e-5;
    const seconds = { load: stage, preprocess: stage, process: stage, store: stage };
    slow.observe({ bytes: records * 100, records, rows: records }, seconds);
  }
  // 20 s, of which 2 s are fixed.
  expect((sustained(slow, 1e9) ?? 0) / 18_000).toBeCloseTo(1, 1);
});

describe('the start of a run', () => {
  it('leaves time for the run, with a margin, and is never in front of the record', () => {
    fc.assert(
      fc.property(
        fc.nat(),
        fc.integer({ min: 1000, max: 1e8 }),
        fc.double({ min: 0, max: 1e6, noNaN: true }),
        (at, within, run) => {
          const start = latestStart(at, within, run);
          expect(start).toBeGreaterThanOrEqual(at);
          expect(start === at || start + run * 1000 < at + within).toBe(true);
        },
      ),
    );
  });

  it('is after half of the time while nothing is known', () => {
    expect(latestStart(1000, 60_000, null)).toBe(31_000);
  });
});

it('diversion begins above the goal and ends well below it', () => {
  const goal = 500;
  expect(shouldDivert(false, 0.5, goal)).toBe(false);
  expect(shouldDivert(false, 0.501, goal)).toBe(true);
  expect(shouldDivert(true, 0.4, goal)).toBe(true);
  expect(shouldDivert(true, 0.2, goal)).toBe(false);
  expect([true, false].map((on) => shouldDivert(on, null, goal))).toEqual([true, false]);
});
