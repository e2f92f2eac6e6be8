import type { Telemetry } from '@anabranch/contract';
import type pg from 'pg';

/** As the columns of a statement: one parameter for all rows, in their order. */
const json = (rows: readonly object[]): string =>
  JSON.stringify(rows, (_key, value: unknown) =>
    typeof value === 'bigint' ? value.toString() : value === Infinity ? 'Infinity' : value,
  );

/**
 * Adds what steps took and were predicted to take to the sums of their minutes, and keeps the newest models
 * and all decisions. The rows are written in key order, so that two writers can't deadlock.
 */
export async function storeTelemetry(
  client: pg.ClientBase,
  telemetry: readonly Telemetry[],
): Promise<void> {
  const costs = telemetry.flatMap((one) => one.costs);
  const models = telemetry.flatMap((one) => one.models);
  const decisions = telemetry.flatMap((one) => one.decisions);
  if (costs.length > 0) {
    await storeCosts(client, json(costs));
  }
  if (models.length > 0) {
    await client.query({ name: 'store-cost-models', text: storeModels, values: [json(models)] });
  }
  if (decisions.length > 0) {
    await client.query({
      name: 'store-decisions',
      text: storeDecisions,
      values: [json(decisions)],
    });
  }
}

async function storeCosts(client: pg.ClientBase, costs: string): Promise<void> {
  await client.query({ name: 'add-stage-costs', text: addStageCosts, values: [costs] });
  await client.query({ name: 'add-prediction-errors', text: addErrors, values: [costs] });
  await client.query({ name: 'add-table-costs', text: addTableCosts, values: [costs] });
}

const addStageCosts = `
  INSERT INTO anabranch.stage_costs AS c (service, instance, source, branch, minute, steps, bytes, records, rows_written,
    load_seconds, preprocess_seconds, process_seconds, store_seconds, cpu_seconds, predicted_steps, predicted_load_seconds,
    predicted_preprocess_seconds, predicted_process_seconds, predicted_store_seconds)
  SELECT service, instance, source, coalesce(branch, 'both'), date_trunc('minute', to_timestamp("finishedAt" / 1000.0)),
    sum(steps), sum(bytes), sum(records), sum(rows), sum(load), sum(preprocess), sum(process), sum(store), sum(cpu),
    sum("predictedSteps"), sum((predicted ->> 'load')::float8), sum((predicted ->> 'preprocess')::float8),
    sum((predicted ->> 'process')::float8), sum((predicted ->> 'store')::float8)
  FROM json_to_recordset($1) AS t (service text, instance text, source text, branch text, "finishedAt" bigint,
    steps bigint, bytes bigint, records bigint, rows bigint, load float8, preprocess float8, process float8, store float8,
    cpu float8, "predictedSteps" bigint, predicted json)
  GROUP BY 1, 2, 3, 4, 5
  ORDER BY 5, 1, 2, 3, 4
  ON CONFLICT (minute, service, instance, source, branch) DO UPDATE SET
    steps = c.steps + excluded.steps,
    bytes = c.bytes + excluded.bytes,
    records = c.records + excluded.records,
    rows_written = c.rows_written + excluded.rows_written,
    load_seconds = c.load_seconds + excluded.load_seconds,
    preprocess_seconds = c.preprocess_seconds + excluded.preprocess_seconds,
    process_seconds = c.process_seconds + excluded.process_seconds,
    store_seconds = c.store_seconds + excluded.store_seconds,
    cpu_seconds = c.cpu_seconds + excluded.cpu_seconds,
    predicted_steps = c.predicted_steps + excluded.predicted_steps,
    predicted_load_seconds = c.predicted_load_seconds + excluded.predicted_load_seconds,
    predicted_preprocess_seconds = c.predicted_preprocess_seconds + excluded.predicted_preprocess_seconds,
    predicted_process_seconds = c.predicted_process_seconds + excluded.predicted_process_seconds,
    predicted_store_seconds = c.predicted_store_seconds + excluded.predicted_store_seconds`;

const addErrors = `
  INSERT INTO anabranch.prediction_errors AS e (service, source, branch, stage, hour, at_most, steps)
  SELECT service, source, coalesce(branch, 'both'), stage, date_trunc('hour', to_timestamp("finishedAt" / 1000.0)),
    "atMost", sum(steps)
  FROM json_to_recordset($1) AS t (service text, source text, branch text, "finishedAt" bigint, errors json),
    json_to_recordset(errors) AS e (stage text, "atMost" float8, steps bigint)
  GROUP BY 1, 2, 3, 4, 5, 6
  ORDER BY 5, 1, 2, 3, 4, 6
  ON CONFLICT (hour, service, source, branch, stage, at_most) DO UPDATE SET steps = e.steps + excluded.steps`;

/** What a step takes for all tables together is divided as what it takes for each of them. */
const addTableCosts = `
  INSERT INTO anabranch.table_costs AS c (service, source, table_name, branch, minute, records, rows_written, seconds, cpu_seconds)
  SELECT service, source, "table", coalesce(branch, 'both'), date_trunc('minute', to_timestamp("finishedAt" / 1000.0)),
    sum(records), sum(rows), sum(seconds), sum(coalesce(cpu * seconds / nullif(whole, 0), 0))
  FROM (
    SELECT t.service, t.source, t.branch, t."finishedAt", t.cpu, c.*, sum(c.seconds) OVER (PARTITION BY t.number) AS whole
    FROM ROWS FROM (json_to_recordset($1) AS (service text, source text, branch text, "finishedAt" bigint, cpu float8,
      tables json)) WITH ORDINALITY AS t (service, source, branch, "finishedAt", cpu, tables, number),
      json_to_recordset(t.tables) AS c ("table" text, records bigint, rows bigint, seconds float8)
  ) shares
  GROUP BY 1, 2, 3, 4, 5
  ORDER BY 5, 3, 1, 2, 4
  ON CONFLICT (minute, table_name, service, source, branch) DO UPDATE SET
    records = c.records + excluded.records,
    rows_written = c.rows_written + excluded.rows_written,
    seconds = c.seconds + excluded.seconds,
    cpu_seconds = c.cpu_seconds + excluded.cpu_seconds`;

const storeModels = `
  INSERT INTO anabranch.cost_models AS m (service, instance, source, branch, stage, unit, fixed_seconds, seconds_per_unit,
    samples, sustained, learnt_at)
  SELECT DISTINCT ON (service, instance, source, coalesce(branch, 'both'), stage)
    service, instance, source, coalesce(branch, 'both'), stage, unit, fixed, each, samples, sustained, to_timestamp(at / 1000.0)
  FROM json_to_recordset($1) AS t (service text, instance text, source text, branch text, at bigint, sustained float8, stages json),
    json_to_recordset(stages) AS s (stage text, unit text, fixed float8, each float8, samples bigint)
  ORDER BY service, instance, source, coalesce(branch, 'both'), stage, at DESC
  ON CONFLICT (service, instance, source, branch, stage) DO UPDATE SET
    unit = excluded.unit, fixed_seconds = excluded.fixed_seconds, seconds_per_unit = excluded.seconds_per_unit,
    samples = excluded.samples, sustained = excluded.sustained, learnt_at = excluded.learnt_at
  WHERE m.learnt_at <= excluded.learnt_at`;

const storeDecisions = `
  INSERT INTO anabranch.decisions (service, instance, source, kind, decided_at, decision, figures)
  SELECT service, instance, source, kind, to_timestamp(at / 1000.0), decision, figures::jsonb
  FROM json_to_recordset($1) AS t (service text, instance text, source text, at bigint, kind text, decision text, figures text)`;
