import type pg from 'pg';
import { completeAt, stagingTable, type WindowPlan } from '../tables.ts';
import { timestamp } from '../timestamp.ts';

/**
 * Whether a staged row may belong to a window that is final before this transaction commits. Most
 * merges have none, and then they need no lock.
 *
 * It suffices to look at the final watermark as it is now, and at this transaction's own frontiers
 * as they were: whoever raises the final watermark until it commits takes the minimum over all
 * frontiers, these included.
 *
 * @param plans all window tables of the source
 * @param own the smallest of the watermarks that this transaction's frontiers had, in microseconds
 *   since 1970; null: one of them had none
 */
export async function isLate(
  client: pg.PoolClient,
  source: string,
  plans: readonly WindowPlan[],
  own: bigint | null,
): Promise<boolean> {
  const staged = plans.map(
    (plan) =>
      `EXISTS (SELECT FROM ${stagingTable(plan.table.name)} t WHERE ${completeAt(plan, 't')} <= greatest(s.final_watermark, $2::timestamptz))`,
  );
  const { rows } = await client.query<{ late: boolean }>({
    name: `late ${source}`,
    text: `SELECT ${staged.join(' OR ') || 'false'} AS late FROM anabranch.sources s WHERE source = $1`,
    values: [source, own === null ? null : timestamp(own)],
  });
  return rows[0]?.late === true;
}

/**
 * Event time up to which the source's windows are final, in microseconds since 1970, and it stays
 * so until the transaction ends: readers must never see a final row change without being
 * `corrected`. Merges that correct exclude each other too, so that each finds the rows of final
 * windows as the one before it has left them; merges that don't can't touch such rows.
 */
export async function lockFinalWatermark(
  client: pg.PoolClient,
  source: string,
): Promise<bigint | null> {
  const { rows } = await client.query<{ watermark: bigint | null }>({
    name: 'lock-final-watermark',
    text: `SELECT (extract(epoch FROM final_watermark) * 1000000)::bigint AS watermark
           FROM anabranch.sources WHERE source = $1 FOR NO KEY UPDATE`,
    values: [source],
  });
  return rows[0]?.watermark ?? null;
}
