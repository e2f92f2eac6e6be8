import type { DeadLetters } from '@anabranch/contract';
import type pg from 'pg';

/**
 * Stores dead letters by their coordinates: once, however often they come. A producer may stamp a
 * record with any number; what isn't a time is left out.
 */
export async function storeDeadLetters(
  db: pg.Pool | pg.PoolClient,
  batches: readonly DeadLetters[],
): Promise<void> {
  const rows = batches.flatMap(({ source, partition, letters }) =>
    letters.map((letter) => ({ source, partition, ...letter })),
  );
  await db.query({
    name: 'store-dead-letters',
    text: `
      INSERT INTO anabranch.dead_letters (source, partition, record_offset, table_name, code, reason,
        record_timestamp, record_key, record_value, record_headers)
      SELECT source, partition, record_offset, coalesce(table_name, ''), code, reason,
        CASE WHEN at BETWEEN 0 AND 253402300799999 THEN to_timestamp(at / 1000.0) END, key, value, headers
      FROM unnest($1::text[], $2::int[], $3::bigint[], $4::text[], $5::text[], $6::text[], $7::bigint[],
        $8::bytea[], $9::bytea[], $10::jsonb[])
        AS t (source, partition, record_offset, table_name, code, reason, at, key, value, headers)
      ORDER BY 1, 2, 3, 4
      ON CONFLICT DO NOTHING`,
    values: [
      rows.map(({ source }) => source),
      rows.map(({ partition }) => partition),
      rows.map(({ offset }) => offset),
      rows.map(({ table }) => table),
      rows.map(({ code }) => code),
      rows.map(({ reason }) => withoutNul(reason)),
      rows.map(({ timestamp: at }) => at),
      rows.map(({ key }) => key),
      rows.map(({ value }) => value),
      rows.map(({ headers }) =>
        JSON.stringify(
          headers.map(({ name, value }) => ({
            name: withoutNul(name),
            value: value?.toString('base64') ?? null,
          })),
        ),
      ),
    ],
  });
}

/** Neither text nor jsonb takes a NUL; a header's name, or a piece of a record, may hold one. */
function withoutNul(text: string): string {
  return text.replaceAll('\0', '\u{FFFD}');
}
