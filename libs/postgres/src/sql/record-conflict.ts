import type pg from 'pg';

export interface Conflict {
  readonly source: string;
  readonly partition: number;
  readonly branch: 'stream' | 'batch';
  /** refused: it fits, but Postgres can't store its rows. */
  readonly verdict: 'gap' | 'overlap' | 'refused';
  /** The frontier at that time. */
  readonly next: bigint;
  readonly from: bigint;
  readonly to: bigint;
  /** The rows of the partial's tables as text, as they came, for a repair by hand; null for a gap, where it isn't at fault. */
  readonly partial: Buffer | null;
}

/** Parks what doesn't fit the frontier; seen again, it is the same conflict. */
export async function recordConflict(db: pg.Pool, conflict: Conflict): Promise<void> {
  const { source, partition, branch, verdict, next, from, to, partial } = conflict;
  await db.query(
    `INSERT INTO anabranch.conflicts (source, partition, branch, verdict, next_offset, from_offset, to_offset, partial)
     VALUES ($1, $2, $3, $4, $5, $6, $7, $8) ON CONFLICT DO NOTHING`,
    [source, partition, branch, verdict, next, from, to, partial],
  );
}
