import { expect } from 'vitest';
import type { DefinitionFiles } from '../chain.ts';
import { eventsDefinition } from '../events.ts';
import { expectEvents, withTyped } from '../events-oracle.ts';
import { maxRecordBytes } from '../records.ts';
import {
  expectDeadLetters,
  expectLedger,
  expectTables,
  loadRecords,
  type Subject,
} from '../oracle.ts';

/** A source's name and topic. */
export interface Named {
  readonly source: string;
  readonly topic: string;
}

/**
 * Two sources: that of the other end-to-end tests, whose split depends on lateness; and a second one, most of
 * whose records take the batch branch, and whose watermark follows the clock when it idles, so that
 * after a pause all of its records come too late.
 */
export function twoSources([orders, payments]: readonly Named[]): DefinitionFiles {
  const files = eventsDefinition(orders?.source ?? '', orders?.topic ?? '');
  const name = payments?.source ?? '';
  const second = `
  ${name}:
    topic: ${payments?.topic}
    schema: events.avsc
    event_time: event_time
    disorder: 2s
    idle_timeout: 4s
    max_record_bytes: ${maxRecordBytes / 1024}KiB
    split:
      - { name: short, when: "bytes < 260", to: stream }
      - { name: tests, when: "kind = 'test'", to: stream }
    default_branch: batch
    batch: { every: 2s, backlog: 256KiB }

tables:
  payments:
    source: ${name}
    where: kind <> 'test'
    columns: { id:, kind:, amount:, label:, happened_at: event_time }

  latest_payment:
    source: ${name}
    columns: { region:, id:, big:, happened_at: event_time }
    key: [region]

  payments_per_quarter:
    source: ${name}
    window: { tumbling: 15m, grace: 30s }
    group_by: [kind]
    aggregates:
      records: count(*)
      total: sum(amount)
      lowest: min(amount)
      highest: max(amount)
      first_region: min(region)
      pieces: sum(quantity)
`;
  return {
    ...files,
    'anabranch.yaml': files['anabranch.yaml'].replace('\n\ntables:\n', `\n${second}`),
  };
}

const sound = `
CREATE TABLE oracle.sound AS
${withTyped}
SELECT *, (rule <> 'default')::int AS stream_records, (rule = 'default')::int AS batch_records
FROM (SELECT *, CASE WHEN bytes < 260 THEN 'short' WHEN kind = 'test' THEN 'tests' ELSE 'default' END AS rule
  FROM typed) ruled`;

const branches = 'sum(stream_records) AS stream_records, sum(batch_records) AS batch_records';

const payments = [
  {
    table: 'payments',
    expected: `SELECT partition AS source_partition, record_offset AS source_offset, id, kind, amount, label,
        event_time AS happened_at, stream_records, batch_records
      FROM oracle.sound WHERE kind <> 'test'`,
  },
  {
    table: 'latest_payment',
    expected: `SELECT DISTINCT ON (region) region, id, big, event_time AS happened_at,
        sum(stream_records) OVER same AS stream_records, sum(batch_records) OVER same AS batch_records
      FROM oracle.sound WINDOW same AS (PARTITION BY region)
      ORDER BY region, event_time DESC, partition DESC, record_offset DESC`,
  },
  {
    table: 'payments_per_quarter',
    expected: `SELECT date_bin('15 minutes', event_time, 'epoch') AS window_start,
        date_bin('15 minutes', event_time, 'epoch') + interval '15 minutes' AS window_end, kind,
        count(*) AS records, sum(amount) AS total, min(amount) AS lowest, max(amount) AS highest,
        min(region) AS first_region, sum(quantity) AS pieces, ${branches}
      FROM oracle.sound GROUP BY 1, 2, 3`,
  },
];

/**
 * `final` means that all records in front of the watermark are in: so what was added to a row of the
 * first source after it was final must be records that came when the watermark of their own
 * partition had passed the window. That watermark never follows the clock: it follows from the topic.
 */
async function expectOnlyLateCorrects(subject: Subject): Promise<void> {
  for (const { table, window, grace, where, groups } of [
    {
      table: 'per_minute',
      window: '1 minute',
      grace: '10 seconds',
      where: `kind <> 'test' AND amount IS NOT NULL AND fee IS NOT NULL`,
      groups: ['region', 'kind'],
    },
    { table: 'per_hour', window: '1 hour', grace: '0 seconds', where: 'true', groups: [] },
  ]) {
    const start = `date_bin('${window}', event_time, 'epoch')`;
    const key = ['window_start', ...groups];
    const wrong = await subject.query(`
      WITH seen AS (
        SELECT *, ${start} AS window_start,
          max(event_time) OVER (PARTITION BY partition ORDER BY record_offset ROWS BETWEEN UNBOUNDED PRECEDING AND 1 PRECEDING)
            - interval '5 seconds' AS watermark
        FROM oracle.sound
      ), late AS (
        SELECT ${key.join(', ')}, count(*) AS late FROM seen
        WHERE ${where} AND watermark >= window_start + interval '${window}' + interval '${grace}'
        GROUP BY ${key.join(', ')}
      ), added AS (
        SELECT (row_key ->> 'window_start')::timestamptz AS window_start
          ${groups.map((group) => `, row_key ->> '${group}' AS ${group}`).join('')},
          sum((after ->> 'records')::int - coalesce((before ->> 'records')::int, 0)) AS added
        FROM anabranch.corrections WHERE table_name = '${table}' GROUP BY ${key.map((_, i) => i + 1).join(', ')}
      )
      SELECT added.*, late FROM added
      LEFT JOIN late ON ${key.map((column) => `added.${column} IS NOT DISTINCT FROM late.${column}`).join(' AND ')}
      WHERE added > coalesce(late, 0) LIMIT 3`);
    expect(wrong, `rows of ${table} that were final too early`).toEqual([]);
  }
}

/** Checks all that the database says of both sources against the oracle. */
export async function expectBothSources(subjects: readonly Subject[]): Promise<void> {
  const [first, second] = subjects;
  if (first === undefined || second === undefined) {
    throw new RangeError('There are two sources.');
  }
  await expectEvents(first);
  await expectOnlyLateCorrects(first);
  await loadRecords(second);
  await second.query(sound);
  await expectTables(second, payments);
  await expectLedger(second);
  await expectDeadLetters(second);
}
