import type pg from 'pg';
import { PostgresError } from '../errors.ts';
import { timestamp } from '../timestamp.ts';

/** What one transaction applies of one branch of one source partition. */
export interface Advance {
  readonly partition: number;
  readonly branch: 'stream' | 'batch';
  readonly fence: bigint;
  /** The frontier as this instance knows it; null: nothing was applied so far. */
  readonly expected: bigint | null;
  readonly origin: bigint;
  readonly from: bigint;
  readonly to: bigint;
  /** Microseconds since 1970. */
  readonly watermark: bigint | null;
  readonly epoch: bigint;
  readonly definition: string;
  readonly partials: number;
  readonly streamRecords: bigint;
  readonly batchRecords: bigint;
  readonly deadRecords: bigint;
  readonly ruleRecords: readonly bigint[];
}

// The ranges of a minute share one row of the ledger: a row per partial would be a million a day.
// The frontier's row knows where the present one began, and is locked by the compare-and-set.
const sql = `
WITH step AS (
  SELECT * FROM unnest(
    $2::int[], $3::text[], $4::bigint[], $5::bigint[], $6::bigint[], $7::bigint[], $8::bigint[],
    $9::timestamptz[], $10::bigint[], $11::text[], $12::bigint[], $13::bigint[], $14::bigint[],
    $15::bigint[], $16::text[]
  ) AS t (partition, branch, fence, expected, origin, from_offset, to_offset,
          watermark, epoch, definition, partials, stream_records, batch_records,
          dead_records, rule_records)
), advanced AS (
  UPDATE anabranch.frontier f SET
    next_offset = step.to_offset,
    origin = coalesce(f.origin, step.origin),
    watermark = greatest(f.watermark, step.watermark),
    epoch = greatest(f.epoch, step.epoch),
    segment_from = CASE WHEN step.to_offset = step.from_offset THEN f.segment_from
      WHEN f.segment_definition = step.definition AND f.segment_started_at > now() - interval '1 minute'
      THEN f.segment_from ELSE step.from_offset END,
    segment_definition = CASE WHEN step.to_offset = step.from_offset THEN f.segment_definition ELSE step.definition END,
    segment_started_at = CASE WHEN step.to_offset = step.from_offset
      OR (f.segment_definition = step.definition AND f.segment_started_at > now() - interval '1 minute')
      THEN f.segment_started_at ELSE now() END,
    updated_at = now()
  FROM step
  WHERE f.source = $1 AND f.partition = step.partition AND f.branch = step.branch
    AND f.next_offset IS NOT DISTINCT FROM step.expected AND f.fence = step.fence
  RETURNING f.partition, f.branch, f.segment_from
), ledger AS (
  INSERT INTO anabranch.ledger AS l (source, partition, branch, from_offset, to_offset, definition, partials,
    stream_records, batch_records, dead_records, rule_records)
  SELECT $1, partition, branch, segment_from, to_offset, definition, partials,
    stream_records, batch_records, dead_records, rule_records::bigint[]
  FROM step JOIN advanced USING (partition, branch)
  WHERE to_offset > from_offset
  ON CONFLICT (source, partition, branch, from_offset) DO UPDATE SET
    to_offset = excluded.to_offset,
    partials = l.partials + excluded.partials,
    stream_records = l.stream_records + excluded.stream_records,
    batch_records = l.batch_records + excluded.batch_records,
    dead_records = l.dead_records + excluded.dead_records,
    rule_records = (SELECT array_agg(a + b ORDER BY i)
      FROM unnest(l.rule_records, excluded.rule_records) WITH ORDINALITY AS r (a, b, i)),
    updated_at = now()
)
SELECT count(*)::int AS advanced FROM advanced`;

/**
 * The compare-and-set that every merge begins with: moves each frontier from where this instance
 * believes it to be, under its fence, and enters the ranges in the ledger.
 * @throws PostgresError `FENCED` when any of them is elsewhere or has a new owner: roll back
 */
export async function advanceFrontier(
  client: pg.PoolClient,
  source: string,
  advances: readonly Advance[],
): Promise<void> {
  const column = <K extends keyof Advance>(name: K): Advance[K][] =>
    advances.map((advance) => advance[name]);
  const { rows } = await client.query<{ advanced: number }>({
    name: 'advance-frontier',
    text: sql,
    values: [
      source,
      column('partition'),
      column('branch'),
      column('fence'),
      column('expected'),
      column('origin'),
      column('from'),
      column('to'),
      advances.map(({ watermark }) => (watermark === null ? null : timestamp(watermark))),
      column('epoch'),
      column('definition'),
      column('partials'),
      column('streamRecords'),
      column('batchRecords'),
      column('deadRecords'),
      advances.map(({ ruleRecords }) => `{${ruleRecords.join(',')}}`),
    ],
  });
  if (rows[0]?.advanced !== advances.length) {
    throw new PostgresError(
      'FENCED',
      `Of ${advances.length} frontiers of source ${source} only ${rows[0]?.advanced ?? 0} are where this instance left them: the others were applied or claimed by another one.`,
    );
  }
}
