import type pg from 'pg';

async function read(
  client: pg.PoolClient,
  source: string,
  lock: '' | 'FOR SHARE',
): Promise<bigint | null> {
  const { rows } = await client.query<{ watermark: bigint | null }>({
    name: `final-watermark ${lock}`,
    text: `SELECT (extract(epoch FROM final_watermark) * 1000000)::bigint AS watermark
           FROM anabranch.sources WHERE source = $1 ${lock}`,
    values: [source],
  });
  return rows[0]?.watermark ?? null;
}

/** Event time up to which the source's windows are final, in microseconds since 1970. */
export function readFinalWatermark(client: pg.PoolClient, source: string): Promise<bigint | null> {
  return read(client, source, '');
}

/**
 * The same, and it stays where it is until the transaction ends. A merge needs that when one of its
 * rows might be final: readers must never see a final row change without being `corrected`.
 *
 * Without the lock it suffices to look at the watermark read before and at this transaction's own
 * frontiers as they were: whoever raises the final watermark meanwhile takes the minimum over all
 * frontiers, these included.
 */
export function lockFinalWatermark(client: pg.PoolClient, source: string): Promise<bigint | null> {
  return read(client, source, 'FOR SHARE');
}
