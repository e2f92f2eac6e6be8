import { expect } from 'vitest';
import {
  type Comparison,
  expectDeadLetters,
  expectLedger,
  expectTables,
  loadRecords,
  type Subject,
} from './oracle.ts';

/** The beginning of a query: `typed` are the sound records of `events.avsc`. */
export const withTyped = `
WITH decoded AS MATERIALIZED (
  SELECT r.*, octet_length(value) AS bytes, ltrim(convert_from(value, 'UTF8'), chr(65279))::jsonb AS v
  FROM oracle.records r WHERE dead IS NULL
), typed AS MATERIALIZED (
  SELECT partition, record_offset, produced_at, bytes, headers,
    (v ->> 'id')::bigint AS id,
    (v ->> 'customer') COLLATE "C" AS customer,
    (v ->> 'region') COLLATE "C" AS region,
    (v ->> 'kind') COLLATE "C" AS kind,
    (v ->> 'amount')::numeric(12,2) AS amount,
    (v ->> 'fee')::numeric(12,2) AS fee,
    (v ->> 'precise')::numeric(28,10) AS precise,
    (v ->> 'quantity')::int AS quantity,
    (v ->> 'big')::bigint AS big,
    (v ->> 'ratio')::float8 AS ratio,
    (v ->> 'flag')::boolean AS flag,
    (v ->> 'label') COLLATE "C" AS label,
    CASE jsonb_typeof(v -> 'day') WHEN 'number' THEN date '1970-01-01' + (v ->> 'day')::int ELSE (v ->> 'day')::date END AS day,
    CASE jsonb_typeof(v -> 'at') WHEN 'number' THEN 'epoch'::timestamptz + (v ->> 'at')::bigint * interval '1 microsecond'
      ELSE (v ->> 'at')::timestamptz END AS at,
    (v ->> 'device')::uuid AS device,
    coalesce((v ->> 'score')::int, 7) AS score,
    CASE jsonb_typeof(v -> 'event_time') WHEN 'number'
      THEN 'epoch'::timestamptz + (v ->> 'event_time')::bigint * interval '1 millisecond'
      ELSE (v ->> 'event_time')::timestamptz END AS event_time
  FROM decoded
)`;

/** The sound records, typed, with the split rule that must have chosen each. */
const events = (batchRules: readonly string[]): string => `
CREATE TABLE oracle.sound AS
${withTyped}, timed AS (
  SELECT *, produced_at - event_time AS age,
    max(event_time) OVER (PARTITION BY partition ORDER BY record_offset ROWS BETWEEN UNBOUNDED PRECEDING AND 1 PRECEDING)
      - interval '5 seconds' - event_time AS late_by
  FROM typed
)
SELECT *, (rule NOT IN (${quoted(batchRules)}))::int AS stream_records, (rule IN (${quoted(batchRules)}))::int AS batch_records
FROM (SELECT *, CASE
    WHEN headers ->> 'bulk' = 'true' THEN 'bulk'
    WHEN bytes > 420 THEN 'large'
    WHEN kind = 'refund' AND amount < 0 THEN 'refunds'
    WHEN headers ->> 'live' = 'true' THEN 'live'
    WHEN age > interval '1 day' THEN 'aged'
    WHEN late_by > interval '2 minutes' THEN 'late'
    ELSE 'default' END AS rule FROM timed) ruled`;

const quoted = (names: readonly string[]): string => names.map((name) => `'${name}'`).join(', ');

const defaultBatchRules = ['bulk', 'large', 'refunds', 'aged', 'late'];

const branches = 'sum(stream_records) AS stream_records, sum(batch_records) AS batch_records';

const comparisons: Comparison[] = [
  {
    table: 'events',
    expected: `SELECT partition AS source_partition, record_offset AS source_offset, id, customer, region, kind, amount, fee,
        precise, quantity, big, ratio, flag, label, day, at, device, score, event_time, amount + fee AS total,
        coalesce(quantity, 0) > 1 AS pieces, stream_records, batch_records
      FROM oracle.sound WHERE kind <> 'test'`,
  },
  {
    table: 'numbered',
    expected: `SELECT partition AS source_partition, record_offset AS source_offset, id, substr(label, 2)::int AS number,
        stream_records, batch_records
      FROM oracle.sound WHERE label LIKE 'n%' AND label <> 'none'`,
  },
  {
    table: 'latest_by_customer',
    expected: `SELECT DISTINCT ON (customer, kind) customer, kind, id, amount + fee AS total, event_time AS happened_at,
        sum(stream_records) OVER same AS stream_records, sum(batch_records) OVER same AS batch_records
      FROM oracle.sound WINDOW same AS (PARTITION BY customer, kind)
      ORDER BY customer, kind, event_time DESC, partition DESC, record_offset DESC`,
  },
  {
    table: 'per_minute',
    expected: `SELECT date_bin('1 minute', event_time, 'epoch') AS window_start,
        date_bin('1 minute', event_time, 'epoch') + interval '1 minute' AS window_end, region, kind,
        count(*) AS records, count(quantity) AS with_quantity, sum(amount + fee) AS total, min(amount + fee) AS lowest,
        max(amount + fee) AS highest, avg(amount + fee) AS average, sum(quantity) AS pieces, ${branches}
      FROM oracle.sound WHERE kind <> 'test' AND amount IS NOT NULL AND fee IS NOT NULL GROUP BY 1, 2, 3, 4`,
  },
  {
    table: 'per_hour',
    expected: `SELECT date_bin('1 hour', event_time, 'epoch') AS window_start,
        date_bin('1 hour', event_time, 'epoch') + interval '1 hour' AS window_end,
        count(*) AS records, sum(precise) AS precise, sum(precise) / nullif(count(precise), 0) AS precise_mean,
        sum(big) AS big, sum(big) / nullif(count(big), 0) AS big_mean, min(big) AS least_big,
        min(label) AS first_label, max(label) AS last_label, min(at) AS first_at, max(day) AS last_day,
        min(ratio) AS least_ratio, max(ratio) AS greatest_ratio, avg(quantity) AS mean_quantity, ${branches}
      FROM oracle.sound GROUP BY 1, 2`,
  },
];

/**
 * Checks all that the database says of the records of `eventsDefinition` against the oracle.
 * @param batchRules the split rules that lead to the batch branch
 */
export async function expectEvents(
  chain: Subject,
  batchRules: readonly string[] = defaultBatchRules,
): Promise<void> {
  await expectEventTables(chain, batchRules);
  await expectLedger(chain);
  await expectDeadLetters(chain);
  await expectRules(chain);
  await expectExpressionLetters(chain);
  const mixed = await chain.query(
    'SELECT FROM per_minute WHERE records <> stream_records + batch_records',
  );
  expect(mixed).toEqual([]);
}

/**
 * Checks the tables alone.
 * @param lost a condition on `oracle.sound`, for records that were split and then lost: they count
 *   nowhere, and are in `oracle.lost` from then on
 */
export async function expectEventTables(
  chain: Subject,
  batchRules: readonly string[] = defaultBatchRules,
  lost = 'false',
): Promise<void> {
  await loadRecords(chain);
  await chain.query(events(batchRules));
  await chain.query(`CREATE TABLE oracle.lost AS SELECT * FROM oracle.sound WHERE ${lost};
    DELETE FROM oracle.sound WHERE ${lost}`);
  await expectTables(chain, comparisons);
}

/** Which rule chose how many records of each partition. */
async function expectRules(chain: Subject): Promise<void> {
  const rules = await chain.query(
    `SELECT partition, rule, sum(records)::int AS records FROM anabranch.split
     WHERE rule <> 'dead' AND source = $1 GROUP BY 1, 2 HAVING sum(records) > 0 ORDER BY 1, 2`,
    [chain.source],
  );
  expect(rules).toEqual(
    await chain.query(
      'SELECT partition, rule, count(*)::int AS records FROM oracle.sound GROUP BY 1, 2 ORDER BY 1, 2',
    ),
  );
}

/** The records on which a table's expression failed: dead for this table, and for no other. */
async function expectExpressionLetters(chain: Subject): Promise<void> {
  const letters = await chain.query(
    `SELECT partition, record_offset::text, table_name, code, record_value FROM anabranch.dead_letters
     WHERE table_name <> '' AND source = $1 ORDER BY partition, dead_letters.record_offset`,
    [chain.source],
  );
  expect(letters).toEqual(
    await chain.query(
      `SELECT partition, record_offset::text, 'numbered' AS table_name, 'expression' AS code, value AS record_value
       FROM oracle.sound JOIN oracle.records r USING (partition, record_offset)
       WHERE label = 'none' ORDER BY partition, r.record_offset`,
    ),
  );
}
