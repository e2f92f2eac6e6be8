import type pg from 'pg';

export interface Claimed {
  readonly partition: number;
  readonly branch: 'stream' | 'batch';
  /** null: nothing was applied so far. */
  readonly next: bigint | null;
  /** Microseconds since 1970. */
  readonly watermark: bigint | null;
  readonly fence: bigint;
}

/**
 * Makes `owner` the one that may advance these partitions on both branches: the fence rises, so a
 * former owner is refused from now on. Waits for a transaction of the former owner that is under
 * way, and returns the frontier as it is after it.
 */
export async function claimFrontier(
  db: pg.Pool | pg.PoolClient,
  source: string,
  partitions: readonly number[],
  owner: string,
): Promise<Claimed[]> {
  const { rows } = await db.query<{
    partition: number;
    branch: 'stream' | 'batch';
    next_offset: bigint | null;
    watermark: bigint | null;
    fence: bigint;
  }>(
    `INSERT INTO anabranch.frontier AS f (source, partition, branch, fence, owner)
     SELECT $1, p, b, 1, $3
     FROM unnest($2::int[]) AS p, unnest('{batch,stream}'::text[]) AS b
     ORDER BY p, b
     ON CONFLICT (source, partition, branch)
     DO UPDATE SET fence = f.fence + 1, owner = excluded.owner, updated_at = now()
     RETURNING partition, branch, next_offset, fence,
               (extract(epoch FROM watermark) * 1000000)::bigint AS watermark`,
    [source, partitions, owner],
  );
  return rows.map(({ partition, branch, next_offset: next, watermark, fence }) => ({
    partition,
    branch,
    next,
    watermark,
    fence,
  }));
}
