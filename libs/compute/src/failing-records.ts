import { type Engine, messageOf } from './engine.ts';
import { ComputeError } from './errors.ts';
import type { Stage, TablePlan } from './plan.ts';

/** A record on which an expression of a table fails. */
export interface DeadRecord {
  readonly partition: number;
  readonly offset: bigint;
  /** Which expression, and what DuckDB says. */
  readonly detail: string;
}

/** DuckDB's own words are asked for one record at a time: for no more than these. */
const mostMessages = 50;

/**
 * Finds the records on which an expression of the table fails, stage by stage, as a later stage can
 * be computed only over records that pass the earlier ones. Leaves their coordinates in the temporary
 * table `failing`.
 *
 * Takes some microseconds a record (`TRY` goes row by row where something fails), so it is only
 * asked once the plain query has failed.
 */
export async function findFailing(
  engine: Engine,
  { sql }: TablePlan,
  records: string,
): Promise<DeadRecord[]> {
  await engine.run(
    'CREATE OR REPLACE TEMP TABLE "failing" ("#partition" INTEGER, "#offset" BIGINT, expression INTEGER)',
  );
  const passing = `(SELECT * FROM ${records} ANTI JOIN "failing" USING ("#partition", "#offset"))`;
  const found: DeadRecord[] = [];
  for (const stage of sql.stages) {
    found.push(...(await failingIn(engine, stage, records, passing, mostMessages - found.length)));
  }
  return found;
}

async function failingIn(
  engine: Engine,
  { input, expressions }: Stage,
  records: string,
  passing: string,
  messages: number,
): Promise<DeadRecord[]> {
  // The struct tells a NULL that the expression gives from one that TRY makes of an error.
  const failed = expressions.map(
    ({ sql }, i) => `WHEN TRY({'v': ${sql}}) IS NULL THEN ${String(i)}`,
  );
  await engine.run(
    `CREATE OR REPLACE TEMP TABLE "failing_now" AS SELECT * FROM
      (SELECT "#partition", "#offset", CASE ${failed.join(' ')} END AS expression FROM ${input(passing)})
      WHERE expression IS NOT NULL`,
  );
  await engine.run('INSERT INTO "failing" SELECT * FROM "failing_now"');
  const rows = await engine.rows(
    'SELECT "#partition" AS partition, "#offset" AS "offset", expression FROM "failing_now" ORDER BY ALL',
  );
  const dead: DeadRecord[] = [];
  for (const [i, row] of rows.entries()) {
    const partition = Number(row['partition']);
    const offset = row['offset'] as bigint;
    const { name, sql } = expressions[Number(row['expression'])] ?? { name: '', sql: 'NULL' };
    const record = `(SELECT * FROM ${records} WHERE "#partition" = ${String(partition)} AND "#offset" = ${String(offset)})`;
    const message =
      i < messages
        ? await messageFor(engine, `SELECT ${sql} AS v FROM ${input(record)}`)
        : 'the expression fails on the record';
    dead.push({ partition, offset, detail: `${name}: ${message}` });
  }
  return dead;
}

async function messageFor(engine: Engine, sql: string): Promise<string> {
  try {
    await engine.run(sql);
    return 'the expression fails on the record';
  } catch (error) {
    if (error instanceof ComputeError && error.code === 'OUT_OF_MEMORY') {
      throw error;
    }
    const message = messageOf(error);
    // The guards of values that Postgres can't hold: see storable-types.ts.
    return (
      /^Conversion Error: Could not convert string '(.*)' to UINT8$/.exec(message)?.[1] ?? message
    );
  }
}
