import type { SourcePlan } from '@anabranch/compute';
import { encodeProcessorPosition, withCost } from '@anabranch/contract';
import { processorUnits, StepModel, sustained } from '@anabranch/cost';
import { createMetrics } from '@anabranch/service';
import { beforeEach, expect, it, vi } from 'vitest';
import { Diversion, type StreamPosition } from './diversion.ts';

/** 1 ms a record. */
const model = new StepModel(processorUnits);
for (let i = 0; i < 50; i++) {
  const records = 100 + (i % 10) * 100;
  const stage = records * 0.00025;
  model.observe(
    { bytes: records * 100, records, rows: records },
    { load: stage, preprocess: stage, process: stage, store: stage },
  );
}
const perSecond = sustained(model, 1e9) ?? 0;

const position = (partition: number, next: bigint, by = 'one'): StreamPosition => ({
  partition,
  metadata: withCost(encodeProcessorPosition({ epoch: 0n, next }), by, model.encode()),
});

let answer: () => Promise<readonly StreamPosition[]>;
let asked: number;

beforeEach(() => {
  asked = 0;
});

function diversionOf(divert = true): Diversion {
  return new Diversion({
    plan: {
      source: { name: 'orders', split: [{ name: 'relief', to: 'batch', divert }] },
      tables: [{ table: { latency: null } }, { table: { latency: 1000 } }],
    } as unknown as SourcePlan,
    log: { repeat: () => undefined },
    metrics: createMetrics('ingest', '0'),
    streamPositions: () => {
      asked++;
      return answer();
    },
  });
}

/** The first decision asks; the second one has the answer. */
async function decided(diversion: Diversion, ...own: [number, bigint][]): Promise<boolean> {
  diversion.decide(own);
  await vi.waitFor(() => expect(diversion.delay(own)).not.toBeNull());
  return diversion.decide(own);
}

it('begins when what waits takes longer than the shortest goal, and ends well below it', async () => {
  expect(Math.round(perSecond)).toBe(1000);
  answer = () => Promise.resolve([position(0, 1000n), position(1, 1000n)]);
  const diversion = diversionOf();
  expect(await decided(diversion, [0, 1400n], [1, 1400n])).toBe(false);
  expect(
    diversion.decide([
      [0, 1600n],
      [1, 1600n],
    ]),
  ).toBe(true);
  expect(
    diversion.decide([
      [0, 1400n],
      [1, 1300n],
    ]),
  ).toBe(true);
  expect(
    diversion.decide([
      [0, 1200n],
      [1, 1200n],
    ]),
  ).toBe(false);
});

it('reckons with the partitions of other instances, and with all processors', async () => {
  answer = () => Promise.resolve([position(0, 0n), position(1, 0n, 'two')]);
  const diversion = diversionOf();
  await decided(diversion, [0, 900n]);
  expect(diversion.delay([[0, 900n]])).toMatchObject({ backlog: 1800, instances: 2 });
  expect(diversion.delay([[0, 900n]])?.delay).toBeCloseTo(0.9, 2);
});

it('stays as it is while nothing is known, and as it was committed after a restart', () => {
  answer = () => Promise.reject(new Error('away'));
  const diversion = diversionOf();
  expect(diversion.decide([[0, 10n ** 9n]])).toBe(false);
  diversion.restore(true);
  expect(diversion.decide([[0, 10n ** 9n]])).toBe(true);
});

it('sees a stream that stands still fall behind, without an answer', async () => {
  answer = () => Promise.resolve([position(0, 0n)]);
  const diversion = diversionOf();
  expect(await decided(diversion, [0, 10n])).toBe(false);
  answer = () => Promise.reject(new Error('away'));
  expect(diversion.decide([[0, 5000n]])).toBe(true);
});

it('asks nobody where no rule diverts', () => {
  answer = () => Promise.resolve([]);
  const diversion = diversionOf(false);
  expect(diversion.decide([[0, 10n ** 9n]])).toBe(false);
  expect([asked, diversion.goal]).toEqual([0, null]);
});
