import type pg from 'pg';
import { completeAt, stagingTable, type WindowPlan } from '../tables.ts';
import { timestamp } from '../timestamp.ts';

/**
 * Whether a row is staged for a window that ends (plus grace) at or before this time.
 * @param time microseconds since 1970
 */
export async function isStagedBefore(
  client: pg.PoolClient,
  plan: WindowPlan,
  time: bigint,
): Promise<boolean> {
  const { rows } = await client.query<{ staged: boolean }>({
    name: `staged-before ${plan.table.name}`,
    text: `SELECT EXISTS (SELECT FROM ${stagingTable(plan.table.name)} t WHERE ${completeAt(plan, 't')} <= $1::timestamptz) AS staged`,
    values: [timestamp(time)],
  });
  return rows[0]?.staged === true;
}
