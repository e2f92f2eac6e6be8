import type pg from 'pg';

/** Makes known how many partitions a source has, so that none is forgotten when a window is called final. */
export async function setPartitions(
  db: pg.Pool,
  source: string,
  partitions: number,
): Promise<void> {
  await db.query(
    `UPDATE anabranch.sources SET partitions = $2, updated_at = now()
     WHERE source = $1 AND partitions < $2`,
    [source, partitions],
  );
  await db.query(
    `INSERT INTO anabranch.frontier (source, partition, branch)
     SELECT $1, p, b FROM generate_series(0, $2 - 1) AS p, unnest('{batch,stream}'::text[]) AS b
     ORDER BY p, b
     ON CONFLICT DO NOTHING`,
    [source, partitions],
  );
}
