import type { TablePlan } from '@anabranch/compute';
import { columnOf, columnsOf, keyOf, stagingTable, stateTable } from '../tables.ts';

/**
 * Merges the staged rows of a table with a key: the last writer by (event time, partition, offset)
 * wins, whichever branch and order the rows come in; the counts add up.
 */
export function mergeUpsert(plan: TablePlan): string {
  const { table } = plan;
  const keys = keyOf(plan);
  const version = [
    columnOf(plan, 'event_time'),
    columnOf(plan, 'partition'),
    columnOf(plan, 'offset'),
  ];
  const values = columnsOf(plan, 'value');
  const counts = [columnOf(plan, 'stream_records'), columnOf(plan, 'batch_records')];
  const excluded = (columns: readonly string[]): string =>
    columns.map((name) => `excluded.${name}`).join(', ');
  const state = (columns: readonly string[]): string =>
    columns.map((name) => `s.${name}`).join(', ');
  const newer = `(${excluded(version)}) > (${state(version)})`;
  const updates = [...version, ...values].map(
    (name) => `${name} = CASE WHEN ${newer} THEN excluded.${name} ELSE s.${name} END`,
  );
  const summed = counts.map(
    (name) => `(sum(${name}) OVER (PARTITION BY ${keys.join(', ')}))::bigint AS ${name}`,
  );
  const columns = [...keys, ...version, ...values, ...counts];
  return `
    INSERT INTO ${stateTable(table.name)} AS s (${columns.join(', ')}, _revision, _updated_at)
    SELECT DISTINCT ON (${keys.join(', ')}) ${[...keys, ...version, ...values, ...summed].join(', ')}, 1, now()
    FROM ${stagingTable(table.name)}
    ORDER BY ${keys.join(', ')}, ${version.map((name) => `${name} DESC`).join(', ')}
    ON CONFLICT (${keys.join(', ')}) DO UPDATE SET
      ${updates.join(',\n      ')},
      ${counts.map((name) => `${name} = s.${name} + excluded.${name}`).join(',\n      ')},
      _revision = s._revision + 1,
      _updated_at = excluded._updated_at`;
}
