import { processorUnits } from '@anabranch/cost';
import { afterEach, beforeEach, expect, it, vi } from 'vitest';
import { CostAccount } from './cost-account.ts';
import { createMetrics } from './create-metrics.ts';

const open = (instance = 'one'): CostAccount =>
  new CostAccount({
    service: 'stream-processor',
    instance,
    source: 'orders',
    branch: 'stream',
    units: processorUnits,
    stepBytes: 1_000_000,
    metrics: createMetrics('stream-processor', '0'),
    log: { info: () => undefined },
  });

function step(account: CostAccount, records: number, factor = 1): void {
  account.predict({ bytes: records * 100, records, rows: null });
  const stage = factor * (0.001 + records * 1e-6);
  account.end(
    {
      service: 'stream-processor',
      bytes: records * 100,
      records,
      rows: records,
      load: stage,
      preprocess: stage,
      process: stage,
      store: stage,
    },
    [{ table: 'clean', records: BigInt(records), rows: BigInt(records), seconds: 2 * stage }],
  );
}

const steps = (account: CostAccount, count: number): void => {
  for (let i = 0; i < count; i++) {
    step(account, 100 + (i % 10) * 50);
  }
};

beforeEach(() => {
  vi.useFakeTimers({ toFake: ['Date'], now: 90_000 });
});
afterEach(() => {
  vi.useRealTimers();
});

it('sums steps, with their prediction from the tenth on, and sends them once', () => {
  const account = open();
  steps(account, 30);
  const telemetry = account.unsent();
  const [cost] = telemetry?.costs ?? [];
  expect(telemetry?.costs).toHaveLength(1);
  expect(cost).toMatchObject({ steps: 30n, records: 9750n, rows: 9750n, predictedSteps: 20n });
  expect((cost?.predicted.process ?? 0) / ((cost?.process ?? 0) * (2 / 3))).toBeCloseTo(1, 1);
  expect(cost?.tables).toMatchObject([{ table: 'clean', records: 9750n }]);
  expect(cost?.cpu).toBeGreaterThan(0);
  expect(telemetry?.models[0]).toMatchObject({ service: 'stream-processor', branch: 'stream' });
  expect(telemetry?.models[0]?.sustained).toBeGreaterThan(0);
  account.sent(telemetry);
  vi.setSystemTime(95_000);
  expect(account.unsent()).toBeNull();
});

it('counts how far predictions were off, by stage and in total', () => {
  const account = open();
  steps(account, 30);
  account.sent(account.unsent());
  step(account, 200, 2.1);
  vi.setSystemTime(95_000);
  const errors = account.unsent()?.costs[0]?.errors ?? [];
  expect(errors.map(({ stage }) => stage)).toEqual([
    'load',
    'preprocess',
    'process',
    'store',
    'total',
  ]);
  expect(errors.every(({ atMost, steps: count }) => atMost === 0.75 && count === 1n)).toBe(true);
});

it('sends again what a failed transaction carried, and no more often than once a second', () => {
  const account = open();
  steps(account, 1);
  expect(account.unsent()?.costs).toHaveLength(1);
  steps(account, 1);
  expect(account.unsent()).toBeNull();
  vi.setSystemTime(91_000);
  const again = account.unsent();
  expect(again?.costs.reduce((sum, cost) => sum + cost.steps, 0n)).toBe(2n);
});

it('sums each minute apart', () => {
  const account = open();
  steps(account, 1);
  vi.setSystemTime(120_001);
  steps(account, 2);
  expect(account.unsent()?.costs.map(({ steps: count }) => count)).toEqual([1n, 2n]);
});

it('sends decisions at once, and none that a failed transaction took back', () => {
  const account = open();
  steps(account, 1);
  account.sent(account.unsent());
  account.decide('divert', 'on', { delay: 2 });
  account.forgetDecisions();
  expect(account.unsent()).toBeNull();
  account.decide('divert', 'on', { delay: 3 });
  expect(account.unsent()?.decisions).toMatchObject([
    { kind: 'divert', decision: 'on', figures: '{"delay":3}' },
  ]);
});

it('a restarted instance, or the next owner of a partition, predicts as the former one did', () => {
  const former = open();
  steps(former, 40);
  const next = open('two');
  next.restore([null, 'nonsense', former.encode()]);
  expect(next.model.samples).toBe(40);
  expect(next.model.secondsOf(500)).toBeCloseTo(former.model.secondsOf(500) ?? 0, 6);
  next.restore([open().encode()]);
  expect(next.model.samples).toBe(40);
});

it('shows what it sustains and what comes, for an autoscaler', async () => {
  const metrics = createMetrics('stream-processor', '0');
  const account = new CostAccount({
    service: 'stream-processor',
    instance: 'one',
    source: 'orders',
    branch: 'stream',
    units: processorUnits,
    stepBytes: 1_000_000,
    metrics,
    log: { info: () => undefined },
  });
  steps(account, 30);
  const page = await metrics.page.text();
  const value = (name: string): number =>
    Number(new RegExp(`^anabranch_${name}\\{source="orders"\\} (\\S+)$`, 'm').exec(page)?.[1]);
  // 10,000 records a step of 44 ms.
  expect(value('sustained_records_per_second') / (10_000 / 0.044)).toBeCloseTo(1, 1);
  expect(value('present_records_per_second') / 975).toBeCloseTo(1, 1);
  expect(value('instances_asked')).toBeCloseTo(975 / (10_000 / 0.044) / 0.8, 3);
});
