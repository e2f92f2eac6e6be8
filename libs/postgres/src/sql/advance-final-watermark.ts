import type pg from 'pg';

/**
 * Raises the event time up to which the windows of a source are final: the smallest watermark of
 * both branches over all partitions, once each has one. It never falls, also when a partition is
 * added that has none yet.
 *
 * Why a merge can't slip between: see `lockFinalWatermark`.
 */
export async function advanceFinalWatermark(
  db: pg.Pool | pg.PoolClient,
  source: string,
): Promise<void> {
  await db.query({
    name: 'advance-final-watermark',
    text: `
      UPDATE anabranch.sources s SET final_watermark = f.watermark, updated_at = now()
      FROM (
        SELECT min(watermark) AS watermark, count(watermark) AS known, count(*) AS frontiers
        FROM anabranch.frontier WHERE source = $1
      ) f
      WHERE s.source = $1 AND f.known = f.frontiers AND f.known >= 2 * s.partitions
        AND f.watermark > coalesce(s.final_watermark, '-infinity')`,
    values: [source],
  });
}
