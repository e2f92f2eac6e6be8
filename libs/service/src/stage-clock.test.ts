import { expect, test } from 'vitest';
import { createMetrics } from './create-metrics.ts';
import { StageClock } from './stage-clock.ts';

test('a step costs the sum of its stages, also of those that failed', async () => {
  const clock = new StageClock('stream-processor');
  expect(await clock.stage('load', () => Promise.resolve(7))).toBe(7);
  await expect(clock.stage('store', () => Promise.reject(new Error('no')))).rejects.toThrow('no');
  const { load, store } = clock.cost();
  expect(load).toBeGreaterThan(0);
  expect(store).toBeGreaterThan(0);
  clock.add({ load: 1, process: 2 });
  clock.count({ bytes: 100, records: 3 });
  clock.count({ records: 4, rows: 1 });
  expect(clock.cost()).toEqual({
    service: 'stream-processor',
    bytes: 100,
    records: 7,
    rows: 1,
    load: load + 1,
    preprocess: 0,
    process: 2,
    store,
  });
});

test('the end of a step tells the metric and begins the next at zero', async () => {
  const metrics = createMetrics('s', '1');
  const clock = new StageClock('s', metrics.stepSeconds);
  clock.add({ load: 0.2, process: 3 });
  clock.count({ records: 5 });
  expect(clock.end()).toMatchObject({ load: 0.2, process: 3, records: 5 });
  expect(clock.end()).toMatchObject({ load: 0, process: 0, records: 0 });
  const text = await metrics.page.text();
  expect(text).toContain('anabranch_step_seconds_sum{stage="process"} 3\n');
  expect(text).toContain('anabranch_step_seconds_count{stage="load"} 2\n');
});
