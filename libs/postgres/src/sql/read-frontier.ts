import type pg from 'pg';

export interface FrontierRow {
  readonly partition: number;
  readonly branch: 'stream' | 'batch';
  /** Source offset that ingest began at; null: nothing was applied so far. */
  readonly origin: bigint | null;
  readonly next: bigint | null;
  /** Microseconds since 1970. */
  readonly watermark: bigint | null;
}

/** The frontiers of a source, claimed by nobody for it. */
export async function readFrontier(
  db: pg.Pool | pg.PoolClient,
  source: string,
): Promise<FrontierRow[]> {
  const { rows } = await db.query<FrontierRow>(
    `SELECT partition, branch, origin, next_offset AS next,
            (extract(epoch FROM watermark) * 1000000)::bigint AS watermark
     FROM anabranch.frontier WHERE source = $1 ORDER BY partition, branch`,
    [source],
  );
  return rows;
}
