import type { StepCost } from '@anabranch/contract';
import type pg from 'pg';

/** Adds what steps took to the sums of their minutes. */
export async function addStageCosts(
  db: pg.Pool | pg.PoolClient,
  costs: readonly StepCost[],
): Promise<void> {
  const column = <K extends keyof StepCost>(name: K): StepCost[K][] =>
    costs.map((cost) => cost[name]);
  await db.query({
    name: 'add-stage-costs',
    text: `
      INSERT INTO anabranch.stage_costs AS c (service, instance, source, branch, minute, steps, bytes, records,
        rows_written, load_seconds, preprocess_seconds, process_seconds, store_seconds)
      SELECT service, instance, source, coalesce(branch, 'both'), date_trunc('minute', to_timestamp(at / 1000.0)),
        sum(steps), sum(bytes), sum(records), sum(rows), sum(load), sum(preprocess), sum(process), sum(store)
      FROM unnest($1::text[], $2::text[], $3::text[], $4::text[], $5::bigint[], $6::bigint[], $7::bigint[],
        $8::bigint[], $9::bigint[], $10::float8[], $11::float8[], $12::float8[], $13::float8[])
        AS t (service, instance, source, branch, at, steps, bytes, records, rows, load, preprocess, process, store)
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
        store_seconds = c.store_seconds + excluded.store_seconds`,
    values: [
      column('service'),
      column('instance'),
      column('source'),
      column('branch'),
      column('finishedAt'),
      column('steps'),
      column('bytes'),
      column('records'),
      column('rows'),
      column('load'),
      column('preprocess'),
      column('process'),
      column('store'),
    ],
  });
}
