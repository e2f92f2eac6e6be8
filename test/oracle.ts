import { expect } from 'vitest';
import type { ProducedRecord } from './source-topic.ts';

/** One source of a chain; a chain itself stands for its first. */
export interface Subject {
  readonly source: string;
  readonly produced: readonly ProducedRecord[];
  query<T extends object>(text: string, values?: unknown[]): Promise<T[]>;
}

/**
 * What the tables must say, computed anew by Postgres from the records as they were produced: plain
 * SQL that shares no code with the compiler and the services.
 */
const createRecords = `
CREATE SCHEMA oracle;
CREATE TABLE oracle.records (
  partition int, record_offset bigint, produced_at timestamptz, key bytea, value bytea, headers jsonb,
  dead text, PRIMARY KEY (partition, record_offset)
);`;

/** Gives the records to the oracle. */
export async function loadRecords(
  chain: Subject,
  records: readonly ProducedRecord[] = chain.produced,
): Promise<void> {
  await chain.query(`DROP SCHEMA IF EXISTS oracle CASCADE; ${createRecords}`);
  const atOnce = 10_000;
  for (let begin = 0; begin < records.length; begin += atOnce) {
    const some = records.slice(begin, begin + atOnce);
    await chain.query(
      `INSERT INTO oracle.records
       SELECT partition, record_offset, 'epoch'::timestamptz + milliseconds * interval '1 millisecond',
         key, value, headers::jsonb, dead
       FROM unnest($1::int[], $2::bigint[], $3::bigint[], $4::bytea[], $5::bytea[], $6::text[], $7::text[])
         AS t (partition, record_offset, milliseconds, key, value, headers, dead)`,
      [
        some.map(({ partition }) => partition),
        some.map(({ offset }) => offset),
        some.map(({ timestamp }) => timestamp),
        some.map(({ key }) => key),
        some.map(({ value }) => value),
        some.map(({ headers }) => JSON.stringify(headers)),
        some.map(({ dead }) => dead),
      ],
    );
  }
  await chain.query('ANALYZE oracle.records');
}

/** Columns that say something about the row, and that the oracle doesn't compute. */
const aboutTheRow = ['status', 'revision', 'updated_at'];

export interface Comparison {
  readonly table: string;
  /** SQL whose columns are those of the table's view, but for status, revision and updated_at. */
  readonly expected: string;
}

/** Checks that each table has exactly the expected rows, and compares each column of it. */
export async function expectTables(
  chain: Subject,
  comparisons: readonly Comparison[],
): Promise<void> {
  for (const { table, expected } of comparisons) {
    await chain.query(`CREATE TABLE oracle.${table} AS ${expected}`);
    const columns = await columnsOf(chain, 'oracle', table);
    expect((await columnsOf(chain, 'public', table)).toSorted(), `columns of ${table}`).toEqual(
      [...columns, ...aboutTheRow].toSorted(),
    );
    const list = columns.map((column) => `"${column}"`).join(', ');
    const [sizes] = await chain.query<{ expected: string; found: string }>(
      `SELECT (SELECT count(*) FROM oracle.${table}) AS expected, (SELECT count(*) FROM public.${table}) AS found`,
    );
    expect(Number(sizes?.expected), `rows that the oracle has for ${table}`).toBeGreaterThan(0);
    // EXCEPT ALL both ways, in one pass.
    const differences = await chain.query(`
      SELECT CASE WHEN sum(sign) > 0 THEN 'missing' ELSE 'too much' END AS what, ${list}
      FROM (SELECT 1 AS sign, ${list} FROM oracle.${table} UNION ALL SELECT -1, ${list} FROM public.${table}) e
      GROUP BY ${list} HAVING sum(sign) <> 0 LIMIT 8`);
    expect(differences, `${table}: ${JSON.stringify(sizes)} rows`).toEqual([]);
  }
}

async function columnsOf(chain: Subject, schema: string, table: string): Promise<string[]> {
  const rows = await chain.query<{ name: string }>(
    `SELECT column_name AS name FROM information_schema.columns
     WHERE table_schema = $1 AND table_name = $2 ORDER BY ordinal_position`,
    [schema, table],
  );
  return rows.map(({ name }) => name);
}

/**
 * Checks the ledger: each record is accounted for exactly once, the ranges tile, nothing is in
 * conflict, and the counts per rule and branch are those of the records.
 */
export async function expectLedger(chain: Subject): Promise<void> {
  const { source } = chain;
  expect(await chain.query('SELECT * FROM anabranch.conflicts')).toEqual([]);
  expect(await chain.query('SELECT * FROM anabranch.ledger_faults')).toEqual([]);
  const [records] = await chain.query<{ all: string; dead: string }>(
    'SELECT count(*) AS all, count(dead) AS dead FROM oracle.records',
  );
  const balance = await chain.query<Record<string, string>>(
    'SELECT * FROM anabranch.balance WHERE source = $1',
    [source],
  );
  expect(balance.length).toBeGreaterThan(0);
  for (const { table_name: table, records: counted, lost, outstanding } of balance) {
    expect({ table, counted: String(Number(counted) - Number(lost)), outstanding }).toEqual({
      table,
      counted: records?.all,
      outstanding: '0',
    });
  }
  const split = await chain.query(
    `SELECT partition, coalesce(sum(records) FILTER (WHERE rule = 'dead'), 0)::int AS dead, sum(records)::int AS records
     FROM anabranch.split WHERE source = $1 GROUP BY 1 ORDER BY 1`,
    [source],
  );
  expect(split).toEqual(
    await chain.query(
      'SELECT partition, count(dead)::int AS dead, count(*)::int AS records FROM oracle.records GROUP BY 1 ORDER BY 1',
    ),
  );
  const counts = await chain.query(
    `SELECT * FROM anabranch.table_counts WHERE read_records <> filtered_records + aggregated_records + dead_records`,
  );
  expect(counts).toEqual([]);
}

/** Checks the dead letters of ingest: those labelled, with their codes, byte for byte. */
export async function expectDeadLetters(chain: Subject): Promise<void> {
  const labelled = `SELECT partition, record_offset, dead AS code, produced_at, key, value, (
      SELECT coalesce(jsonb_agg(jsonb_build_object('name', name, 'value', encode(convert_to(text, 'UTF8'), 'base64')) ORDER BY name), '[]')
      FROM jsonb_each_text(headers) AS h (name, text)) AS headers
    FROM oracle.records WHERE dead IS NOT NULL`;
  const stored = `SELECT partition, record_offset, code, record_timestamp, record_key, record_value, (
      SELECT coalesce(jsonb_agg(h ORDER BY h ->> 'name'), '[]') FROM jsonb_array_elements(record_headers) AS h) AS headers
    FROM anabranch.dead_letters WHERE table_name = '' AND source = '${chain.source}'`;
  const differences = await chain.query(`
    (SELECT 'missing' AS what, partition, record_offset, code, convert_from(value, 'LATIN1') AS text, headers
      FROM (${labelled} EXCEPT ALL ${stored}) e LIMIT 10)
    UNION ALL
    (SELECT 'too much', partition, record_offset, code, convert_from(record_value, 'LATIN1'), headers
      FROM (${stored} EXCEPT ALL ${labelled}) e LIMIT 10)
    ORDER BY partition, record_offset`);
  expect(differences).toEqual([]);
  const unexplained = await chain.query(
    `SELECT * FROM anabranch.dead_letters WHERE reason = '' OR code = 'invalid'`,
  );
  expect(unexplained).toEqual([]);
}
