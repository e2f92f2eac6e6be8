import type pg from 'pg';

/** Where fusion reads on, per partition of one of its topics. */
export async function readPositions(
  db: pg.Pool | pg.PoolClient,
  topic: string,
  partitions: readonly number[],
): Promise<Map<number, bigint>> {
  const { rows } = await db.query<{ partition: number; next_offset: bigint }>(
    'SELECT partition, next_offset FROM anabranch.positions WHERE topic = $1 AND partition = ANY ($2::int[])',
    [topic, partitions],
  );
  return new Map(rows.map(({ partition, next_offset }) => [partition, next_offset]));
}

export interface Position {
  readonly topic: string;
  readonly partition: number;
  readonly next: bigint;
}

/** Stores them in the transaction that applies what was read. */
export async function writePositions(
  db: pg.Pool | pg.PoolClient,
  positions: readonly Position[],
): Promise<void> {
  await db.query({
    name: 'write-positions',
    text: `
      INSERT INTO anabranch.positions AS p (topic, partition, next_offset)
      SELECT * FROM unnest($1::text[], $2::int[], $3::bigint[]) AS t (topic, partition, next_offset)
      ORDER BY topic, partition
      ON CONFLICT (topic, partition) DO UPDATE SET next_offset = excluded.next_offset
      WHERE p.next_offset < excluded.next_offset`,
    values: [
      positions.map(({ topic }) => topic),
      positions.map(({ partition }) => partition),
      positions.map(({ next }) => next),
    ],
  });
}
