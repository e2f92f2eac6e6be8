import type { RunShare } from '@anabranch/contract';
import type pg from 'pg';

/** Adds a partial's share to the record of the run that made it. */
export async function recordRun(
  client: pg.PoolClient,
  source: string,
  run: RunShare,
  covered: { readonly partition: number; readonly from: bigint; readonly to: bigint },
): Promise<void> {
  await client.query({
    name: 'record-run',
    text: `
      INSERT INTO anabranch.runs AS r (run, source, instance, started_by, started_at, finished_at, bytes, records,
        rows_written, load_seconds, preprocess_seconds, process_seconds, store_seconds)
      VALUES ($1, $2, $3, $4, to_timestamp($5::bigint / 1000.0), to_timestamp($6::bigint / 1000.0), $7, $8, $9, $10, $11, $12, $13)
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
      run.id,
      source,
      run.instance,
      run.trigger,
      run.startedAt,
      run.finishedAt,
      run.bytes,
      run.records,
      run.rows,
      run.load,
      run.preprocess,
      run.process,
      run.store,
    ],
  });
  await client.query({
    name: 'record-run-range',
    text: `
      INSERT INTO anabranch.run_ranges AS r (run, partition, from_offset, to_offset) VALUES ($1, $2, $3, $4)
      ON CONFLICT (run, partition) DO UPDATE SET to_offset = greatest(r.to_offset, excluded.to_offset)`,
    values: [run.id, covered.partition, covered.from, covered.to],
  });
}
