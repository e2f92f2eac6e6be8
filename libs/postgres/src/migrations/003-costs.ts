/** What steps were predicted to cost, how far that was off, and what was decided by it. */
export const costs = `
ALTER TABLE anabranch.stage_costs
  ADD COLUMN cpu_seconds double precision NOT NULL DEFAULT 0,
  ADD COLUMN predicted_steps bigint NOT NULL DEFAULT 0,
  ADD COLUMN predicted_load_seconds double precision NOT NULL DEFAULT 0,
  ADD COLUMN predicted_preprocess_seconds double precision NOT NULL DEFAULT 0,
  ADD COLUMN predicted_process_seconds double precision NOT NULL DEFAULT 0,
  ADD COLUMN predicted_store_seconds double precision NOT NULL DEFAULT 0;
COMMENT ON COLUMN anabranch.stage_costs.cpu_seconds IS 'Processor seconds of the whole process, all threads together.';
COMMENT ON COLUMN anabranch.stage_costs.predicted_steps IS 'Steps that had a prediction: the predicted seconds are of these. The first ones of an instance have none.';

CREATE TABLE anabranch.prediction_errors (
  service text COLLATE "C" NOT NULL,
  source text COLLATE "C" NOT NULL,
  branch text COLLATE "C" NOT NULL,
  stage text COLLATE "C" NOT NULL,
  hour timestamptz NOT NULL,
  at_most double precision NOT NULL,
  steps bigint NOT NULL,
  PRIMARY KEY (hour, service, source, branch, stage, at_most)
) WITH (fillfactor = 50);
COMMENT ON TABLE anabranch.prediction_errors IS 'Steps by how far their prediction was off: |predicted - measured| / measured is above the next smaller bound and at most at_most. Stage total: of T_total.';

CREATE TABLE anabranch.table_costs (
  service text COLLATE "C" NOT NULL,
  source text COLLATE "C" NOT NULL,
  table_name text COLLATE "C" NOT NULL,
  branch text COLLATE "C" NOT NULL,
  minute timestamptz NOT NULL,
  records bigint NOT NULL,
  rows_written bigint NOT NULL,
  seconds double precision NOT NULL,
  cpu_seconds double precision NOT NULL,
  PRIMARY KEY (minute, table_name, service, source, branch)
) WITH (fillfactor = 50);
COMMENT ON TABLE anabranch.table_costs IS 'What each table took of the processors'' steps, per minute. What serves all tables of a step (reading, sending) is shared by their seconds.';

CREATE TABLE anabranch.cost_models (
  service text COLLATE "C" NOT NULL,
  instance text COLLATE "C" NOT NULL,
  source text COLLATE "C" NOT NULL,
  branch text COLLATE "C" NOT NULL,
  stage text COLLATE "C" NOT NULL,
  unit text NOT NULL,
  fixed_seconds double precision NOT NULL,
  seconds_per_unit double precision NOT NULL,
  samples bigint NOT NULL,
  sustained double precision,
  learnt_at timestamptz NOT NULL,
  PRIMARY KEY (service, instance, source, branch, stage)
) WITH (fillfactor = 50);
COMMENT ON TABLE anabranch.cost_models IS 'The newest model of each instance: seconds of a stage = fixed_seconds + seconds_per_unit * units.';

CREATE TABLE anabranch.decisions (
  id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
  service text COLLATE "C" NOT NULL,
  instance text COLLATE "C" NOT NULL,
  source text COLLATE "C" NOT NULL,
  kind text COLLATE "C" NOT NULL,
  decided_at timestamptz NOT NULL,
  decision text NOT NULL,
  figures jsonb NOT NULL
);
CREATE INDEX decisions_kind ON anabranch.decisions (source, kind, id);
COMMENT ON TABLE anabranch.decisions IS 'What the services decided by cost, where it differed from before, with the figures it was made from.';

CREATE VIEW anabranch.cost_model AS
SELECT service, instance, source, branch, stage, fixed_seconds,
       CASE WHEN seconds_per_unit > 0 THEN 1 / seconds_per_unit END AS units_per_second, unit, samples, learnt_at
FROM anabranch.cost_models;
COMMENT ON VIEW anabranch.cost_model IS 'Today''s speeds: S (load, bytes/s), P (preprocess), C (process), W (store), of the unit named; with the fixed part of a step and the steps they were learnt from.';

CREATE VIEW anabranch.cost_error AS
SELECT service, source, branch, stage, min(at_most) FILTER (WHERE reached >= 0.5 * steps) AS median,
       min(at_most) FILTER (WHERE reached >= 0.95 * steps) AS p95, max(steps)::bigint AS steps
FROM (
  SELECT service, source, branch, stage, at_most,
         sum(sum(steps)) OVER (PARTITION BY service, source, branch, stage ORDER BY at_most) AS reached,
         sum(sum(steps)) OVER (PARTITION BY service, source, branch, stage) AS steps
  FROM anabranch.prediction_errors
  WHERE hour >= now() - interval '24 hours'
  GROUP BY service, source, branch, stage, at_most
) counted
GROUP BY service, source, branch, stage;
COMMENT ON VIEW anabranch.cost_error IS 'How far predictions were off in the last 24 hours: half of the steps by at most median, 95 % by at most p95 (0.15: 15 %).';

CREATE VIEW anabranch.capacity AS
SELECT service, source, branch, sustained AS records_per_second_per_instance,
       coalesce(rate, 0)::double precision AS records_per_second,
       greatest(1, ceil(coalesce(rate, 0) / (0.8 * sustained)))::int AS instances_needed, instances
FROM (
  SELECT service, source, branch, avg(sustained) AS sustained, count(DISTINCT instance) AS instances
  FROM anabranch.cost_models WHERE sustained > 0 AND learnt_at > now() - interval '1 hour'
  GROUP BY service, source, branch
) models
LEFT JOIN (
  -- Runs come in bursts: what they have to sustain is the average over many.
  SELECT service, source, branch, CASE branch
           WHEN 'batch' THEN sum(records) / greatest(60, extract(epoch FROM now() - greatest(min(minute), now() - interval '1 hour')))
           ELSE coalesce(sum(records) FILTER (WHERE minute > now() - interval '3 minutes'), 0)
             / greatest(30, least(180, extract(epoch FROM now() - min(minute)))) END AS rate
  FROM anabranch.stage_costs WHERE minute > now() - interval '1 hour'
  GROUP BY service, source, branch
) rates USING (service, source, branch);
COMMENT ON VIEW anabranch.capacity IS 'Per service: the records a second that one instance sustains, by what its steps cost, the present rate (of three minutes; of the batch branch of an hour), and the instances this asks for at 80 % of their load.';

CREATE VIEW anabranch.branch_costs AS
SELECT table_name, source, stream, batch, stream_records, batch_records, CASE
    WHEN stream IS NULL OR batch IS NULL THEN 'Nothing to compare with: records came over one branch only.'
    WHEN least(stream_records, batch_records) < 10000 THEN 'Too few records on one branch to tell.'
    WHEN stream > 1.2 * batch THEN format('A record costs %s times as much on the stream as on the batch branch: let those that nobody waits for go to batch by a split rule.', round((stream / batch)::numeric, 1))
    WHEN batch > 1.2 * stream THEN format('A record costs %s times as much on the batch branch as on the stream: nothing is saved by sending more there.', round((batch / stream)::numeric, 1))
    ELSE 'Both branches cost about the same: let freshness decide.' END AS advice
FROM (
  SELECT table_name, source,
         1e6 * (sum(cpu + fusion) FILTER (WHERE branch = 'stream')) / nullif(sum(records) FILTER (WHERE branch = 'stream'), 0) AS stream,
         1e6 * (sum(cpu + fusion) FILTER (WHERE branch = 'batch')) / nullif(sum(records) FILTER (WHERE branch = 'batch'), 0) AS batch,
         coalesce(sum(records) FILTER (WHERE branch = 'stream'), 0)::bigint AS stream_records,
         coalesce(sum(records) FILTER (WHERE branch = 'batch'), 0)::bigint AS batch_records
  FROM (
    SELECT c.table_name, c.source, c.branch, sum(c.records) AS records, sum(c.cpu_seconds) AS cpu,
           coalesce(sum(c.rows_written) * max(f.per_row), 0) AS fusion
    FROM anabranch.table_costs c
    LEFT JOIN (
      SELECT source, sum(cpu_seconds) / nullif(sum(rows_written), 0) AS per_row
      FROM anabranch.stage_costs WHERE service = 'fusion' AND minute > now() - interval '24 hours' GROUP BY source
    ) f USING (source)
    WHERE c.minute > now() - interval '24 hours'
    GROUP BY c.table_name, c.source, c.branch
  ) branches
  GROUP BY table_name, source
) compared;
COMMENT ON VIEW anabranch.branch_costs IS 'Processor seconds per million records of each table on either branch, measured in the last 24 hours: the processor''s, and fusion''s by the rows it merged. Ingest is the same for both, Postgres isn''t in it.';

CREATE FUNCTION anabranch.why(source_name text, partition_number int, source_offset bigint)
RETURNS TABLE (from_offset bigint, to_offset bigint, rule text, records bigint, diverting boolean, figures jsonb)
LANGUAGE sql STABLE AS $why$
  SELECT s.from_offset, s.to_offset, s.rule, s.records, coalesce(d.decision = 'on', false), d.figures
  FROM anabranch.split s
  LEFT JOIN LATERAL (
    SELECT decision, figures FROM anabranch.decisions
    WHERE source = source_name AND kind = 'divert'
      AND (figures -> 'from' ->> partition_number::text)::bigint <= source_offset
    ORDER BY (figures -> 'from' ->> partition_number::text)::bigint DESC, id DESC LIMIT 1
  ) d ON true
  WHERE s.source = source_name AND s.partition = partition_number
    AND s.from_offset <= source_offset AND s.to_offset > source_offset AND s.records > 0
$why$;
COMMENT ON FUNCTION anabranch.why IS 'Why a record went where it went: the split rules that chose records of its range in the ledger, and whether rules that divert held there, with the figures of that decision.';
`;
