import type { RunShare } from '@anabranch/contract';
import type pg from 'pg';

/** A partial's share of the run that made it. */
export interface CoveredRun {
  readonly run: RunShare;
  readonly partition: number;
  readonly from: bigint;
  readonly to: bigint;
}

/**
 * Adds partials' shares to the records of their runs, in the order of the runs: instances that have
 * different partitions of the same runs can't deadlock.
 */
export async function recordRuns(
  client: pg.PoolClient,
  source: string,
  covered: readonly CoveredRun[],
): Promise<void> {
  const column = <K extends keyof RunShare>(name: K): RunShare[K][] =>
    covered.map(({ run }) => run[name]);
  await client.query({
    name: 'record-runs',
    text: `
      INSERT INTO anabranch.runs AS r (run, source, instance, started_by, started_at, finished_at, bytes, records,
        rows_written, load_seconds, preprocess_seconds, process_seconds, store_seconds)
      SELECT run, $1, min(instance), min(started_by), to_timestamp(min(started_at) / 1000.0),
        to_timestamp(max(finished_at) / 1000.0), sum(bytes), sum(records), sum(rows), sum(load), sum(preprocess),
        sum(process), sum(store)
      FROM unnest($2::text[], $3::text[], $4::text[], $5::bigint[], $6::bigint[], $7::bigint[], $8::bigint[],
        $9::bigint[], $10::float8[], $11::float8[], $12::float8[], $13::float8[])
        AS t (run, instance, started_by, started_at, finished_at, bytes, records, rows, load, preprocess, process, store)
      GROUP BY run
      ORDER BY run COLLATE "C"
      ON CONFLICT (run) DO UPDATE SET
        finished_at = coalesce(excluded.finished_at, r.finished_at),
        bytes = r.bytes + excluded.bytes,
        records = r.records + excluded.records,
        rows_written = r.rows_written + excluded.rows_written,
        load_seconds = r.load_seconds + excluded.load_seconds,
        preprocess_seconds = r.preprocess_seconds + excluded.preprocess_seconds,
        process_seconds = r.process_seconds + excluded.process_seconds,
        store_seconds = r.store_seconds + excluded.store_seconds`,
    values: [
      source,
      column('id'),
      column('instance'),
      column('trigger'),
      column('startedAt'),
      column('finishedAt'),
      column('bytes'),
      column('records'),
      column('rows'),
      column('load'),
      column('preprocess'),
      column('process'),
      column('store'),
    ],
  });
  await client.query({
    name: 'record-run-ranges',
    text: `
      INSERT INTO anabranch.run_ranges AS r (run, partition, from_offset, to_offset)
      SELECT run, partition, min(from_offset), max(to_offset)
      FROM unnest($1::text[], $2::int[], $3::bigint[], $4::bigint[]) AS t (run, partition, from_offset, to_offset)
      GROUP BY run, partition
      ORDER BY run COLLATE "C", partition
      ON CONFLICT (run, partition) DO UPDATE SET
        from_offset = least(r.from_offset, excluded.from_offset),
        to_offset = greatest(r.to_offset, excluded.to_offset)`,
    values: [
      column('id'),
      covered.map(({ partition }) => partition),
      covered.map(({ from }) => from),
      covered.map(({ to }) => to),
    ],
  });
}
