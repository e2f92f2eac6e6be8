import pg from 'pg';
import { completeAt, keyOf, stagingTable, stateTable, type WindowPlan } from '../tables.ts';

/** How two states become one, and how many rows' states do. */
const merges = {
  sum: {
    two: (mine: string, theirs: string) => `coalesce(${mine} + ${theirs}, ${mine}, ${theirs})`,
    many: 'sum',
  },
  least: { two: (mine: string, theirs: string) => `least(${mine}, ${theirs})`, many: 'min' },
  greatest: { two: (mine: string, theirs: string) => `greatest(${mine}, ${theirs})`, many: 'max' },
} as const;

/**
 * Merges the staged states of a window table into its state table. Rows are written in key order:
 * so two instances that merge into the same rows can't deadlock, and the new rows of a window stand
 * together.
 *
 * Parameter 1: windows that end (plus grace) at or before this time were final; null: none was.
 */
export function mergeWindow(plan: WindowPlan): string {
  const keys = keyOf(plan);
  const states = plan.columns
    .filter(({ role }) => role === 'state' || role === 'stream_records' || role === 'batch_records')
    .map(({ name, merge, postgresType }) => ({
      column: pg.escapeIdentifier(name),
      merge: merges[merge ?? 'sum'],
      postgresType,
    }));
  // sum() of bigint is numeric; the column says what it has to be.
  const merged = states.map(
    ({ column, merge, postgresType }) => `${merge.many}(${column})::${postgresType}`,
  );
  const updates = states.map(
    ({ column, merge }) => `${column} = ${merge.two(`s.${column}`, `excluded.${column}`)}`,
  );
  return `
    INSERT INTO ${stateTable(plan.table.name)} AS s
      (${[...keys, ...states.map(({ column }) => column)].join(', ')}, _revision, _corrected, _updated_at)
    SELECT ${[...keys, ...merged].join(', ')}, 1, coalesce(${completeAt(plan, 't')} <= $1::timestamptz, false), now()
    FROM ${stagingTable(plan.table.name)} t
    GROUP BY ${keys.join(', ')}
    ORDER BY ${keys.join(', ')}
    ON CONFLICT (${keys.join(', ')}) DO UPDATE SET
      ${updates.join(',\n      ')},
      _revision = s._revision + 1,
      _corrected = s._corrected OR excluded._corrected,
      _updated_at = excluded._updated_at`;
}
