import type pg from 'pg';

/** Records of one table by fate, as one transaction adds them. */
export interface TableCount {
  readonly table: string;
  readonly partition: number;
  readonly branch: 'stream' | 'batch';
  readonly read: bigint;
  readonly filtered: bigint;
  readonly aggregated: bigint;
  readonly dead: bigint;
}

/** @param counts each (table, partition, branch) once */
export async function countRecords(
  client: pg.PoolClient,
  source: string,
  counts: readonly TableCount[],
): Promise<void> {
  const column = <K extends keyof TableCount>(name: K): TableCount[K][] =>
    counts.map((count) => count[name]);
  await client.query({
    name: 'count-records',
    text: `
      INSERT INTO anabranch.table_counts AS c (source, table_name, partition, branch, read_records,
        filtered_records, aggregated_records, dead_records)
      SELECT $1, * FROM unnest($2::text[], $3::int[], $4::text[], $5::bigint[], $6::bigint[], $7::bigint[], $8::bigint[])
        AS t (table_name, partition, branch, read, filtered, aggregated, dead)
      ORDER BY table_name, partition, branch
      ON CONFLICT (table_name, source, partition, branch) DO UPDATE SET
        read_records = c.read_records + excluded.read_records,
        filtered_records = c.filtered_records + excluded.filtered_records,
        aggregated_records = c.aggregated_records + excluded.aggregated_records,
        dead_records = c.dead_records + excluded.dead_records`,
    values: [
      source,
      column('table'),
      column('partition'),
      column('branch'),
      column('read'),
      column('filtered'),
      column('aggregated'),
      column('dead'),
    ],
  });
}
