import { readFileSync } from 'node:fs';
import { expect, test } from 'vitest';
import { type Chain, type DefinitionFiles, openChain } from './chain.ts';
import {
  type Comparison,
  expectDeadLetters,
  expectLedger,
  expectTables,
  loadRecords,
} from './oracle.ts';
import type { SourceRecord } from './records.ts';

const partitions = 3;
const example = new URL('../examples/quick-start/', import.meta.url);
const read = (name: string): string => readFileSync(new URL(name, example), 'utf8');

/** The example's own definition, on a topic of this test's. */
function define(source: string, topic: string): DefinitionFiles {
  const yaml = read('anabranch.yaml')
    .replace('topic: quick-start-orders', `topic: ${topic}`)
    .replace('\n  orders:\n', `\n  ${source}:\n`)
    .replaceAll('source: orders\n', `source: ${source}\n`)
    // A machine that pauses must not make records late that aren't.
    .replace('idle_timeout: 10s', 'idle_timeout: never')
    .replace('every: 5s', 'every: 1s');
  return { 'anabranch.yaml': yaml, 'orders.avsc': read('orders.avsc') };
}

function records(file: string, headers: Record<string, string> = {}): SourceRecord[] {
  const [, ...lines] = read(file).trimEnd().split('\n');
  return lines.map((line) => {
    const [column1, column2, region = '', time = ''] = line.split(',');
    const value = {
      column1: column1 || null,
      column2: column2 || null,
      region,
      event_time: Date.parse(time),
    };
    return order(value, headers);
  });
}

interface Order {
  readonly column1: string | null;
  readonly column2: string | null;
  readonly region: string;
  readonly event_time: number;
}

function order(value: Order, headers: Record<string, string> = {}): SourceRecord {
  return {
    partition: Buffer.byteLength(value.region) % partitions,
    key: Buffer.from(value.region),
    value: Buffer.from(JSON.stringify(value)),
    headers,
    timestamp: value.event_time,
    dead: null,
  };
}

const decoded = `
CREATE TABLE oracle.orders AS
SELECT *, column1 + column2 AS new_column,
  CASE WHEN bulk OR late_by > interval '2 minutes' THEN 1 ELSE 0 END AS batch_records,
  CASE WHEN bulk OR late_by > interval '2 minutes' THEN 0 ELSE 1 END AS stream_records
FROM (
  SELECT *, max(event_time) OVER (PARTITION BY partition ORDER BY record_offset ROWS BETWEEN UNBOUNDED PRECEDING AND 1 PRECEDING)
      - interval '5 seconds' - event_time AS late_by
  FROM (
    SELECT partition, record_offset, headers ? 'bulk' AS bulk, v ->> 'region' AS region,
      (v ->> 'column1')::numeric(12,2) AS column1, (v ->> 'column2')::numeric(12,2) AS column2,
      'epoch'::timestamptz + (v ->> 'event_time')::bigint * interval '1 millisecond' AS event_time
    FROM (SELECT *, convert_from(value, 'UTF8')::jsonb AS v FROM oracle.records) parsed
  ) typed
) timed`;

const kept = 'column1 IS NOT NULL AND column2 IS NOT NULL';

const comparisons: Comparison[] = [
  {
    table: 'clean_rows',
    expected: `SELECT partition AS source_partition, record_offset AS source_offset, event_time, region, column1, column2,
        new_column, stream_records, batch_records
      FROM oracle.orders WHERE ${kept}`,
  },
  {
    table: 'latest_by_region',
    expected: `SELECT DISTINCT ON (region) region, event_time AS ordered_at, new_column,
        sum(stream_records) OVER same AS stream_records, sum(batch_records) OVER same AS batch_records
      FROM oracle.orders WHERE ${kept} WINDOW same AS (PARTITION BY region)
      ORDER BY region, event_time DESC, partition DESC, record_offset DESC`,
  },
  {
    table: 'per_minute',
    expected: `SELECT date_bin('1 minute', event_time, 'epoch') AS window_start,
        date_bin('1 minute', event_time, 'epoch') + interval '1 minute' AS window_end, region, count(*) AS records,
        sum(new_column) AS total, min(new_column) AS lowest, max(new_column) AS highest, avg(new_column) AS average,
        sum(stream_records) AS stream_records, sum(batch_records) AS batch_records
      FROM oracle.orders WHERE ${kept} GROUP BY 1, 2, 3`,
  },
];

async function expectQuickStart(chain: Chain): Promise<void> {
  await loadRecords(chain);
  await chain.query(decoded);
  await expectTables(chain, comparisons);
  await expectLedger(chain);
  await expectDeadLetters(chain);
}

interface Window {
  readonly status: string;
  readonly revision: string;
  readonly records: string;
  readonly total: string;
}

test('the quick start: its tables are what plain SQL says; windows go from provisional to final to corrected', async () => {
  const chain = await openChain({ define, partitions });
  chain.startAll();
  const live = records('stream_data.csv');
  await chain.produce(records('batch_data.csv', { bulk: 'true' }));
  await chain.produce(live);
  await chain.settled();
  await expectQuickStart(chain);

  // A window of the last minute, which nothing has passed yet.
  const start = new Date(Math.max(...live.map(({ timestamp }) => timestamp)));
  start.setUTCSeconds(0, 0);
  const windows = await chain.query<{ region: string }>(
    'SELECT region FROM per_minute WHERE window_start = $1 ORDER BY region LIMIT 1',
    [start],
  );
  const region = windows[0]?.region ?? '';
  const look = async (): Promise<Window> => {
    const [row] = await chain.query<Window>(
      'SELECT status, revision, records, total FROM per_minute WHERE window_start = $1 AND region = $2',
      [start, region],
    );
    return row ?? { status: 'missing', revision: '0', records: '0', total: '0' };
  };
  const provisional = await look();
  expect(provisional.status).toBe('provisional');

  // Later records on every partition pass it by.
  const times = { event_time: start.getTime() + 3_600_000, column1: '1.00', column2: '2.00' };
  const byPartition = new Map(live.map(({ partition, key }) => [partition, String(key)]));
  expect(byPartition.size).toBe(partitions);
  await chain.produce([...byPartition.values()].map((name) => order({ ...times, region: name })));
  const final = await chain.eventually('the window to be final', async () => {
    const seen = await look();
    return seen.status === 'provisional' ? undefined : seen;
  });
  expect(final).toEqual({ ...provisional, status: 'final' });
  expect(await chain.query('SELECT FROM anabranch.corrections')).toEqual([]);

  await chain.produce([
    order({ region, column1: '0.01', column2: '0.02', event_time: start.getTime() + 1 }),
  ]);
  await chain.settled();
  const corrected = await look();
  expect(corrected).toMatchObject({
    status: 'corrected',
    records: String(BigInt(final.records) + 1n),
  });
  expect(BigInt(corrected.revision)).toBeGreaterThan(BigInt(final.revision));
  const corrections = await chain.query<{ before: Window; after: Window; table_name: string }>(
    'SELECT table_name, before, after FROM anabranch.corrections',
  );
  expect(corrections).toHaveLength(1);
  const [{ before, after, table_name: table } = { before: null, after: null, table_name: '' }] =
    corrections;
  expect(table).toBe('per_minute');
  expect([before, after].map((row) => [String(row?.records), row?.total].map(Number))).toEqual(
    [final, corrected].map((row) => [row.records, row.total].map(Number)),
  );
  await expectQuickStart(chain);
});
