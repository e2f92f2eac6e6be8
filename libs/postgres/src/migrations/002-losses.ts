/** What was lost and accepted as lost, and a balance that knows of it. */
export const losses = `
CREATE TABLE anabranch.losses (
  id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
  source text COLLATE "C" NOT NULL,
  partition int NOT NULL,
  branch text COLLATE "C" NOT NULL CHECK (branch IN ('stream', 'batch', 'both', 'dead')),
  from_offset bigint NOT NULL,
  to_offset bigint NOT NULL CHECK (to_offset > from_offset),
  kind text NOT NULL CHECK (kind IN ('records', 'blocks', 'partials', 'dead letters')),
  reason text NOT NULL,
  accepted_by text NOT NULL,
  accepted_at timestamptz NOT NULL DEFAULT now(),
  event_time_from timestamptz,
  event_time_to timestamptz,
  UNIQUE (source, partition, branch, kind, from_offset, to_offset)
);
COMMENT ON TABLE anabranch.losses IS 'Ranges that were lost in Kafka and that somebody has accepted as lost: their partition went on behind them.';
COMMENT ON COLUMN anabranch.losses.branch IS 'both: ingest never read the records; dead: the texts of dead letters, which the ledger counts all the same.';
COMMENT ON COLUMN anabranch.losses.from_offset IS 'Source offset; for dead letters, offset of the topic of dead letters.';
COMMENT ON COLUMN anabranch.losses.kind IS 'What was lost: records of the source, blocks of a branch, partials, or dead letters.';
COMMENT ON COLUMN anabranch.losses.event_time_from IS 'Lost records that were not late have event times from here on; null: unknown.';
COMMENT ON COLUMN anabranch.losses.event_time_to IS 'Lost records have event times up to here, unless a clock was ahead; null: unknown.';

CREATE OR REPLACE VIEW anabranch.balance AS
WITH ranges AS (
  SELECT source, partition,
         coalesce(range_agg(int8range(from_offset, to_offset)) FILTER (WHERE branch <> 'batch'), '{}') AS stream,
         coalesce(range_agg(int8range(from_offset, to_offset)) FILTER (WHERE branch <> 'stream'), '{}') AS batch
  FROM anabranch.losses WHERE branch <> 'dead' GROUP BY source, partition
), sizes AS (
  SELECT source, partition,
         (SELECT coalesce(sum(upper(r) - lower(r)), 0) FROM unnest(stream * batch) r) AS nobody,
         (SELECT coalesce(sum(upper(r) - lower(r)), 0) FROM unnest(stream - batch) r) AS stream,
         (SELECT coalesce(sum(upper(r) - lower(r)), 0) FROM unnest(batch - stream) r) AS batch
  FROM ranges
), applied AS (
  SELECT source, partition, branch, sum(stream_records) AS stream, sum(batch_records) AS batch, sum(dead_records) AS dead
  FROM anabranch.ledger GROUP BY source, partition, branch
), known AS (
  -- Of a range that one branch lost, the other one knows how many records it had.
  SELECT source, partition, coalesce(z.nobody, 0) AS nobody,
         coalesce(CASE WHEN z.source IS NULL THEN s.stream ELSE greatest(s.stream, b.stream) END, 0) AS stream,
         coalesce(CASE WHEN z.source IS NULL THEN s.batch ELSE greatest(s.batch, b.batch) END, 0) AS batch,
         coalesce(CASE WHEN z.source IS NULL THEN s.dead ELSE greatest(s.dead, b.dead) END, 0) AS dead,
         least(coalesce(z.stream, 0), greatest(0, coalesce(b.stream, 0) - coalesce(s.stream, 0))) AS stream_lost,
         least(coalesce(z.batch, 0), greatest(0, coalesce(s.batch, 0) - coalesce(b.batch, 0))) AS batch_lost
  FROM (SELECT * FROM applied WHERE branch = 'stream') s
  FULL JOIN (SELECT * FROM applied WHERE branch = 'batch') b USING (source, partition)
  FULL JOIN sizes z USING (source, partition)
)
SELECT t.table_name, t.source,
       coalesce(l.records, 0) AS records,
       coalesce(c.aggregated, 0) AS aggregated,
       coalesce(c.filtered, 0) AS filtered,
       coalesce(l.dead, 0) + coalesce(c.dead, 0) AS dead,
       coalesce(l.records, 0) - coalesce(c.aggregated, 0) - coalesce(c.filtered, 0)
         - coalesce(l.dead, 0) - coalesce(c.dead, 0) - coalesce(l.lost, 0) AS outstanding,
       coalesce(l.lost, 0) AS lost
FROM anabranch.tables t
LEFT JOIN (
  SELECT source, sum(stream + batch + dead + nobody) AS records, sum(dead) AS dead,
         sum(nobody + stream_lost + batch_lost) AS lost
  FROM known GROUP BY source
) l USING (source)
LEFT JOIN (
  SELECT table_name, sum(aggregated_records) AS aggregated, sum(filtered_records) AS filtered, sum(dead_records) AS dead
  FROM anabranch.table_counts GROUP BY table_name
) c USING (table_name);
COMMENT ON VIEW anabranch.balance IS 'records = aggregated + filtered + dead + lost + outstanding. Outstanding: read by one branch, not yet applied by the other; 0 at rest. Lost: see losses; where no branch knows how many records a range had, its offsets are counted.';
`;
