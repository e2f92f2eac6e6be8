/** The tables that hold what was applied, and what happened to it. */
export const ledger = `
CREATE TABLE anabranch.sources (
  source text COLLATE "C" PRIMARY KEY,
  topic text NOT NULL,
  partitions int NOT NULL,
  definition text NOT NULL,
  final_watermark timestamptz,
  updated_at timestamptz NOT NULL DEFAULT now()
);
COMMENT ON TABLE anabranch.sources IS 'The sources, and up to which event time their windows are final.';
COMMENT ON COLUMN anabranch.sources.final_watermark IS 'The smallest watermark of all partitions on both branches; it never falls. A window is final when its end plus grace is not after it.';

CREATE TABLE anabranch.split_rules (
  source text COLLATE "C" NOT NULL,
  definition text COLLATE "C" NOT NULL,
  rules text[] NOT NULL,
  PRIMARY KEY (source, definition)
);
COMMENT ON TABLE anabranch.split_rules IS 'Names of the split rules of each definition of a source, in their order.';

CREATE TABLE anabranch.tables (
  table_name text COLLATE "C" PRIMARY KEY,
  source text COLLATE "C" NOT NULL,
  kind text NOT NULL,
  hash text NOT NULL,
  created_at timestamptz NOT NULL DEFAULT now()
);
COMMENT ON TABLE anabranch.tables IS 'The tables of the definition as they were created; the hash tells when a definition has changed.';

CREATE TABLE anabranch.frontier (
  source text COLLATE "C" NOT NULL,
  partition int NOT NULL,
  branch text COLLATE "C" NOT NULL CHECK (branch IN ('stream', 'batch')),
  origin bigint,
  next_offset bigint,
  watermark timestamptz,
  epoch bigint NOT NULL DEFAULT 0,
  fence bigint NOT NULL DEFAULT 0,
  owner text,
  segment_from bigint,
  segment_definition text,
  segment_started_at timestamptz,
  updated_at timestamptz NOT NULL DEFAULT now(),
  PRIMARY KEY (source, partition, branch)
) WITH (fillfactor = 50);
COMMENT ON TABLE anabranch.frontier IS 'Per source partition and branch: the source offset up to which everything is applied, and the watermark there.';
COMMENT ON COLUMN anabranch.frontier.origin IS 'Source offset that ingest began at; null until the first partial is applied.';
COMMENT ON COLUMN anabranch.frontier.next_offset IS 'First source offset that is not applied.';
COMMENT ON COLUMN anabranch.frontier.fence IS 'Rises with each assignment of the partition: a former owner is refused.';

CREATE TABLE anabranch.positions (
  topic text COLLATE "C" NOT NULL,
  partition int NOT NULL,
  next_offset bigint NOT NULL,
  PRIMARY KEY (topic, partition)
) WITH (fillfactor = 50);
COMMENT ON TABLE anabranch.positions IS 'Where fusion reads on in its internal topics.';

CREATE TABLE anabranch.ledger (
  source text COLLATE "C" NOT NULL,
  partition int NOT NULL,
  branch text COLLATE "C" NOT NULL,
  from_offset bigint NOT NULL,
  to_offset bigint NOT NULL CHECK (to_offset > from_offset),
  definition text COLLATE "C" NOT NULL,
  partials bigint NOT NULL,
  stream_records bigint NOT NULL,
  batch_records bigint NOT NULL,
  dead_records bigint NOT NULL,
  rule_records bigint[] NOT NULL,
  started_at timestamptz NOT NULL DEFAULT now(),
  updated_at timestamptz NOT NULL DEFAULT now(),
  PRIMARY KEY (source, partition, branch, from_offset)
) WITH (fillfactor = 70);
COMMENT ON TABLE anabranch.ledger IS 'What was applied: per source partition and branch the ranges tile without gap or overlap. Ranges applied within a minute share a row.';
COMMENT ON COLUMN anabranch.ledger.stream_records IS 'Records of the range that ingest sent to the stream branch.';
COMMENT ON COLUMN anabranch.ledger.batch_records IS 'Records of the range that ingest sent to the batch branch.';
COMMENT ON COLUMN anabranch.ledger.dead_records IS 'Records of the range that ingest refused.';
COMMENT ON COLUMN anabranch.ledger.rule_records IS 'Records of the range per split rule, in the order of split_rules; the last counts those that no rule matched.';

CREATE TABLE anabranch.table_counts (
  table_name text COLLATE "C" NOT NULL,
  source text COLLATE "C" NOT NULL,
  partition int NOT NULL,
  branch text COLLATE "C" NOT NULL,
  read_records bigint NOT NULL,
  filtered_records bigint NOT NULL,
  aggregated_records bigint NOT NULL,
  dead_records bigint NOT NULL,
  PRIMARY KEY (table_name, source, partition, branch)
) WITH (fillfactor = 50);
COMMENT ON TABLE anabranch.table_counts IS 'Records by fate, per table and branch: read = filtered + aggregated + dead.';

CREATE TABLE anabranch.dead_letters (
  source text COLLATE "C" NOT NULL,
  partition int NOT NULL,
  record_offset bigint NOT NULL,
  table_name text COLLATE "C" NOT NULL DEFAULT '',
  code text NOT NULL,
  reason text NOT NULL,
  record_timestamp timestamptz,
  record_key bytea,
  record_value bytea,
  record_headers jsonb NOT NULL,
  stored_at timestamptz NOT NULL DEFAULT now(),
  PRIMARY KEY (source, partition, record_offset, table_name)
);
COMMENT ON TABLE anabranch.dead_letters IS 'Records that count in no table, byte for byte, with the reason.';
COMMENT ON COLUMN anabranch.dead_letters.table_name IS 'The table whose expression failed on the record; empty: refused by ingest, for all tables.';
COMMENT ON COLUMN anabranch.dead_letters.record_headers IS 'Array of {name, value}; the value in base64.';

CREATE TABLE anabranch.conflicts (
  id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
  source text COLLATE "C" NOT NULL,
  partition int NOT NULL,
  branch text COLLATE "C" NOT NULL,
  verdict text NOT NULL,
  next_offset bigint,
  from_offset bigint NOT NULL,
  to_offset bigint NOT NULL,
  partial bytea,
  seen_at timestamptz NOT NULL DEFAULT now(),
  UNIQUE (source, partition, branch, verdict, from_offset, to_offset)
);
COMMENT ON TABLE anabranch.conflicts IS 'Partials that do not fit the frontier: their partition is halted until someone looks.';

CREATE TABLE anabranch.corrections (
  id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
  table_name text COLLATE "C" NOT NULL,
  row_key jsonb NOT NULL,
  before jsonb,
  after jsonb NOT NULL,
  corrected_at timestamptz NOT NULL DEFAULT now()
);
CREATE INDEX corrections_table ON anabranch.corrections (table_name, id);
COMMENT ON TABLE anabranch.corrections IS 'Every change of a row that was final: what it said before (null: the row was not there) and after.';

CREATE TABLE anabranch.runs (
  run text COLLATE "C" PRIMARY KEY,
  source text COLLATE "C" NOT NULL,
  instance text NOT NULL,
  started_by text NOT NULL,
  started_at timestamptz NOT NULL,
  finished_at timestamptz,
  bytes bigint NOT NULL,
  records bigint NOT NULL,
  rows_written bigint NOT NULL,
  load_seconds double precision NOT NULL,
  preprocess_seconds double precision NOT NULL,
  process_seconds double precision NOT NULL,
  store_seconds double precision NOT NULL
);
COMMENT ON TABLE anabranch.runs IS 'Runs of the batch-processor; finished_at is null while one goes on, or when it was killed and its rest done by another.';

CREATE TABLE anabranch.run_ranges (
  run text COLLATE "C" NOT NULL REFERENCES anabranch.runs,
  partition int NOT NULL,
  from_offset bigint NOT NULL,
  to_offset bigint NOT NULL,
  PRIMARY KEY (run, partition)
);
COMMENT ON TABLE anabranch.run_ranges IS 'The source offsets that a run accounted for.';

CREATE TABLE anabranch.stage_costs (
  service text COLLATE "C" NOT NULL,
  instance text COLLATE "C" NOT NULL,
  source text COLLATE "C" NOT NULL,
  branch text COLLATE "C" NOT NULL,
  minute timestamptz NOT NULL,
  steps bigint NOT NULL,
  bytes bigint NOT NULL,
  records bigint NOT NULL,
  rows_written bigint NOT NULL,
  load_seconds double precision NOT NULL,
  preprocess_seconds double precision NOT NULL,
  process_seconds double precision NOT NULL,
  store_seconds double precision NOT NULL,
  PRIMARY KEY (minute, service, instance, source, branch)
) WITH (fillfactor = 50);
COMMENT ON TABLE anabranch.stage_costs IS 'Bytes, records and seconds of each stage (T = B/S + D/P + D/C + D/W), summed over the steps of a minute. Branch both: steps that serve the two at once.';

CREATE VIEW anabranch.ledger_faults AS
SELECT source, partition, branch, previous_to, from_offset
FROM (
  SELECT *, lag(to_offset) OVER (PARTITION BY source, partition, branch ORDER BY from_offset) AS previous_to
  FROM anabranch.ledger
) ranges
WHERE previous_to IS DISTINCT FROM from_offset AND previous_to IS NOT NULL
UNION ALL
SELECT f.source, f.partition, f.branch, max(l.to_offset), f.next_offset
FROM anabranch.frontier f
LEFT JOIN anabranch.ledger l USING (source, partition, branch)
GROUP BY f.source, f.partition, f.branch, f.origin, f.next_offset
HAVING coalesce(min(l.from_offset), f.origin) IS DISTINCT FROM f.origin
    OR coalesce(max(l.to_offset), f.origin) IS DISTINCT FROM f.next_offset;
COMMENT ON VIEW anabranch.ledger_faults IS 'Where the ledger does not tile from the origin to the frontier; it is always empty.';

CREATE VIEW anabranch.split AS
SELECT l.source, l.partition, l.from_offset, l.to_offset,
       CASE WHEN r.number = cardinality(l.rule_records) THEN 'default'
            ELSE coalesce(s.rules[r.number], 'rule ' || r.number) END AS rule,
       r.number AS rule_number, r.records
FROM anabranch.ledger l
LEFT JOIN anabranch.split_rules s USING (source, definition)
CROSS JOIN LATERAL unnest(l.rule_records) WITH ORDINALITY AS r (records, number)
WHERE l.branch = 'stream'
UNION ALL
SELECT source, partition, from_offset, to_offset, 'dead', NULL, dead_records
FROM anabranch.ledger
WHERE branch = 'stream';
COMMENT ON VIEW anabranch.split IS 'How many records of a range of source offsets each split rule chose; the counts of a range sum to its records.';

CREATE VIEW anabranch.balance AS
SELECT t.table_name, t.source,
       coalesce(l.records, 0) AS records,
       coalesce(c.aggregated, 0) AS aggregated,
       coalesce(c.filtered, 0) AS filtered,
       coalesce(l.dead, 0) + coalesce(c.dead, 0) AS dead,
       coalesce(l.records, 0) - coalesce(c.aggregated, 0) - coalesce(c.filtered, 0)
         - coalesce(l.dead, 0) - coalesce(c.dead, 0) AS outstanding
FROM anabranch.tables t
LEFT JOIN (
  SELECT source, sum(stream_records + batch_records + dead_records) AS records, sum(dead_records) AS dead
  FROM anabranch.ledger WHERE branch = 'stream' GROUP BY source
) l USING (source)
LEFT JOIN (
  SELECT table_name, sum(aggregated_records) AS aggregated, sum(filtered_records) AS filtered, sum(dead_records) AS dead
  FROM anabranch.table_counts GROUP BY table_name
) c USING (table_name);
COMMENT ON VIEW anabranch.balance IS 'records = aggregated + filtered + dead + outstanding. Outstanding: read by one branch, not yet applied by the other; 0 at rest.';
`;
