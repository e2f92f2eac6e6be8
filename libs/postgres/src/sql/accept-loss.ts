import type pg from 'pg';
import { timestamp } from '../timestamp.ts';

/** The definition under which the ledger has ranges that were lost. */
export const acceptedLoss = 'accepted-loss';

export interface Loss {
  readonly source: string;
  readonly partition: number;
  /** both: ingest never read the records; dead: texts of dead letters. */
  readonly branch: 'stream' | 'batch' | 'both' | 'dead';
  readonly kind: 'records' | 'blocks' | 'partials' | 'dead letters';
  /** Source offsets; of dead letters, offsets of their topic. */
  readonly from: bigint;
  readonly to: bigint;
  /** Event times between which the lost records lie, in microseconds since 1970; null: unknown. */
  readonly eventTimes: { readonly from: bigint | null; readonly to: bigint | null };
  readonly reason: string;
  /** Who accepts it; null: the role that is logged in. */
  readonly by: string | null;
}

/** Enters an accepted loss in the ledger; entered again, it is the same one. */
export async function recordLoss(db: pg.Pool | pg.PoolClient, loss: Loss): Promise<void> {
  const { source, partition, branch, kind, from, to, eventTimes, reason, by } = loss;
  const known = (time: bigint | null): string | null => (time === null ? null : timestamp(time));
  const latest =
    eventTimes.from !== null && eventTimes.to !== null && eventTimes.to < eventTimes.from
      ? eventTimes.from
      : eventTimes.to;
  await db.query(
    `INSERT INTO anabranch.losses
       (source, partition, branch, kind, from_offset, to_offset, event_time_from, event_time_to, reason, accepted_by)
     VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, coalesce($10, session_user)) ON CONFLICT DO NOTHING`,
    [source, partition, branch, kind, from, to, known(eventTimes.from), known(latest), reason, by],
  );
}

/** Deletes the conflicts that a gap has left which is now accepted. */
export async function settleGap(
  client: pg.PoolClient,
  { source, partition, branch, from }: Loss,
): Promise<void> {
  await client.query(
    `DELETE FROM anabranch.conflicts
     WHERE source = $1 AND partition = $2 AND branch = $3 AND verdict = 'gap' AND next_offset = $4`,
    [source, partition, branch, from],
  );
}

/**
 * Lets fusion read on at `next` though that is in front of where it was, or behind. Nothing is applied
 * twice by it, since the frontier stays; what is skipped shows as a gap.
 */
export async function movePosition(
  client: pg.PoolClient,
  topic: string,
  partition: number,
  next: bigint,
): Promise<void> {
  await client.query(
    `INSERT INTO anabranch.positions (topic, partition, next_offset) VALUES ($1, $2, $3)
     ON CONFLICT (topic, partition) DO UPDATE SET next_offset = excluded.next_offset`,
    [topic, partition, next],
  );
}

/** What of a range was accepted as lost before; null: nothing. */
export async function acceptedKind(
  db: pg.Pool,
  {
    source,
    partition,
    branch,
    from,
    to,
  }: Pick<Loss, 'source' | 'partition' | 'branch' | 'from' | 'to'>,
): Promise<Loss['kind'] | null> {
  const { rows } = await db.query<{ kind: Loss['kind'] }>(
    `SELECT kind FROM anabranch.losses
     WHERE source = $1 AND partition = $2 AND branch = $3 AND from_offset = $4 AND to_offset = $5
     ORDER BY id DESC LIMIT 1`,
    [source, partition, branch, from, to],
  );
  return rows[0]?.kind ?? null;
}
