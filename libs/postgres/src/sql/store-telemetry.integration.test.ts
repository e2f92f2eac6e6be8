import type { CostModel, Decision, StepCost, Telemetry } from '@anabranch/contract';
import type pg from 'pg';
import { expect, it } from 'vitest';
import { databaseWith, planWith, source } from '../testing.ts';
import { transaction } from '../transaction.ts';
import { storeTelemetry } from './store-telemetry.ts';

const now = Date.now();
const minute = BigInt(now - (now % 60_000));

const cost: StepCost = {
  service: 'stream-processor',
  instance: 'one',
  source: source.name,
  branch: 'stream',
  finishedAt: minute,
  steps: 2n,
  bytes: 1000n,
  records: 10_000n,
  rows: 50n,
  load: 0.5,
  preprocess: 0.25,
  process: 1,
  store: 0.125,
  cpu: 2,
  predicted: { load: 0.25, preprocess: 0.25, process: 0.5, store: 0.25 },
  predictedSteps: 1n,
  errors: [
    { stage: 'total', atMost: 0.1, steps: 1n },
    { stage: 'total', atMost: Infinity, steps: 1n },
  ],
  tables: [
    { table: 'total', records: 10_000n, rows: 50n, seconds: 0.3 },
    { table: 'clean', records: 10_000n, rows: 10n, seconds: 0.1 },
  ],
};
const model: CostModel = {
  service: 'stream-processor',
  instance: 'one',
  source: source.name,
  branch: 'stream',
  at: minute,
  sustained: 1000,
  stages: [{ stage: 'load', unit: 'bytes', fixed: 0.5, each: 0.001, samples: 7n }],
};
const store = (pool: pg.Pool, telemetry: Partial<Telemetry>): Promise<void> =>
  transaction(pool, (client) =>
    storeTelemetry(client, [{ costs: [], models: [], decisions: [], ...telemetry }]),
  );

it('sums the costs of a minute, with their predictions beside them', async () => {
  const { pool, query } = await databaseWith(planWith());
  const costs = [cost, { ...cost, finishedAt: minute + 59_999n }, { ...cost, branch: null }];
  await store(pool, { costs });
  await store(pool, { costs: [cost, { ...cost, finishedAt: minute + 60_000n }] });
  expect(
    await query(
      `SELECT branch, steps, records, load_seconds, cpu_seconds, predicted_steps, predicted_load_seconds
       FROM anabranch.stage_costs ORDER BY branch, minute`,
    ),
  ).toEqual(
    [
      ['both', 2n, 10_000n, 0.5, 2, 1n, 0.25],
      ['stream', 6n, 30_000n, 1.5, 6, 3n, 0.75],
      ['stream', 2n, 10_000n, 0.5, 2, 1n, 0.25],
    ].map(
      ([
        branch,
        steps,
        records,
        load_seconds,
        cpu_seconds,
        predicted_steps,
        predicted_load_seconds,
      ]) => ({
        branch,
        steps,
        records,
        load_seconds,
        cpu_seconds,
        predicted_steps,
        predicted_load_seconds,
      }),
    ),
  );
});

it('shows median and 95th percentile of the relative error', async () => {
  const { pool, query } = await databaseWith(planWith());
  const errors = [
    { stage: 'total', atMost: 0.05, steps: 40n },
    { stage: 'total', atMost: 0.15, steps: 20n },
    { stage: 'total', atMost: 0.5, steps: 36n },
    { stage: 'total', atMost: Infinity, steps: 4n },
  ];
  await store(pool, {
    costs: [
      { ...cost, errors },
      { ...cost, errors: [] },
    ],
  });
  expect(await query('SELECT stage, median, p95, steps FROM anabranch.cost_error')).toEqual([
    { stage: 'total', median: 0.15, p95: 0.5, steps: 100n },
  ]);
});

it('keeps the newest model of each instance, as speeds', async () => {
  const { pool, query } = await databaseWith(planWith());
  const newer = { ...model, at: minute + 5n, stages: [{ ...model.stages[0]!, each: 0.002 }] };
  await store(pool, { models: [newer, model, { ...model, instance: 'two' }] });
  await store(pool, { models: [model] });
  expect(
    await query(
      'SELECT instance, stage, fixed_seconds, units_per_second, unit, samples FROM anabranch.cost_model ORDER BY 1',
    ),
  ).toEqual([
    {
      instance: 'one',
      stage: 'load',
      fixed_seconds: 0.5,
      units_per_second: 500,
      unit: 'bytes',
      samples: 7n,
    },
    {
      instance: 'two',
      stage: 'load',
      fixed_seconds: 0.5,
      units_per_second: 1000,
      unit: 'bytes',
      samples: 7n,
    },
  ]);
});

it('says how many instances the present rate asks for', async () => {
  const { pool, query } = await databaseWith(planWith());
  const costs = [{ ...cost, records: 300_000n }];
  await store(pool, { costs, models: [model, { ...model, instance: 'two', sustained: 3000 }] });
  const [capacity] = (await query('SELECT * FROM anabranch.capacity')) as Record<string, number>[];
  expect(capacity).toMatchObject({
    service: 'stream-processor',
    branch: 'stream',
    records_per_second_per_instance: 2000,
    instances: 2n,
  });
  // 300,000 records in what has passed of this minute.
  const rate = capacity?.['records_per_second'] ?? 0;
  expect(rate).toBeGreaterThan(300_000 / 90);
  expect(rate).toBeLessThanOrEqual(10_000);
  expect(capacity?.['instances_needed']).toBe(Math.ceil(rate / 1600));
});

it('compares the branches of a table, and says what to do', async () => {
  const { pool, query } = await databaseWith(planWith());
  const fusion = {
    ...cost,
    service: 'fusion',
    branch: null,
    tables: [],
    errors: [],
    cpu: 1,
    rows: 100n,
  };
  const batch = { ...cost, branch: 'batch' as const, cpu: 1, tables: cost.tables.slice(0, 1) };
  await store(pool, { costs: [cost, fusion, batch] });
  const rows = await query('SELECT * FROM anabranch.branch_costs ORDER BY table_name');
  // 1.5 of the 2 seconds, and half a second of fusion, for 10,000 records.
  expect(rows[1]).toMatchObject({ table_name: 'total' });
  expect(
    [rows[1]?.['stream'], rows[1]?.['batch'], rows[0]?.['stream']].map(Number).map(Math.round),
  ).toEqual([200, 150, 60]);
  expect(rows[1]?.['advice']).toMatch(/1\.3 times as much on the stream/);
  expect(rows[0]).toMatchObject({ table_name: 'clean', batch: null });
  expect(rows[0]?.['advice']).toMatch(/one branch only/);
});

it('says why a record went where it went', async () => {
  const { pool, query } = await databaseWith(planWith());
  const decision = (text: string, from: object): Decision => ({
    service: 'ingest',
    instance: 'one',
    source: source.name,
    at: minute,
    kind: 'divert',
    decision: text,
    figures: JSON.stringify({ delay: 2, from }),
  });
  await store(pool, {
    decisions: [decision('on', { 0: '10', 1: '5' }), decision('off', { 0: '20' })],
  });
  await query(
    `INSERT INTO anabranch.split_rules VALUES ('${source.name}', 'v1', '{relief}') ON CONFLICT DO NOTHING`,
  );
  await query(
    `INSERT INTO anabranch.ledger (source, partition, branch, from_offset, to_offset, definition, partials,
       stream_records, batch_records, dead_records, rule_records)
     VALUES ('${source.name}', 0, 'stream', 0, 30, 'v1', 1, 20, 10, 0, '{10,20}')`,
  );
  const why = (offset: number) =>
    query(
      `SELECT rule, records, diverting, figures ->> 'delay' AS delay FROM anabranch.why('${source.name}', 0, ${offset})`,
    );
  expect(await why(15)).toEqual([
    { rule: 'relief', records: 10n, diverting: true, delay: '2' },
    { rule: 'default', records: 20n, diverting: true, delay: '2' },
  ]);
  expect((await why(9)).map((row) => (row as { diverting: boolean }).diverting)).toEqual([
    false,
    false,
  ]);
  expect((await why(25)).map((row) => (row as { diverting: boolean }).diverting)).toEqual([
    false,
    false,
  ]);
  expect(await why(30)).toEqual([]);
});
