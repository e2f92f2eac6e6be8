import { expect, it } from 'vitest';
import { faultNames, faults } from './faults/all.ts';
import { planRound } from './plan.ts';

const options = { names: faultNames, steps: faultNames.length };

it('makes the same round of the same seed, and another one of another', () => {
  expect(planRound({ seed: 7, ...options })).toEqual(planRound({ seed: 7, ...options }));
  expect(planRound({ seed: 7, ...options })).not.toEqual(planRound({ seed: 8, ...options }));
});

it('has every fault among those of a long enough round, alone or beside one of another family', () => {
  for (let seed = 0; seed < 50; seed++) {
    const { steps } = planRound({ seed, ...options });
    expect(new Set(steps.flat().map(({ name }) => name))).toEqual(new Set(faultNames));
    for (const step of steps) {
      expect(step.length).toBeGreaterThan(0);
      const families = step.map(({ name }) => faults[name].family);
      expect(new Set(families).size).toBe(families.length);
    }
  }
});

it('has only the faults that were asked for', () => {
  const { steps } = planRound({ seed: 1, names: ['kill'], steps: 3 });
  expect(steps.map((step) => step.map(({ name }) => name))).toEqual([['kill'], ['kill'], ['kill']]);
});
