import pg from 'pg';
import {
  columnOf,
  completeAt,
  keyOf,
  stagingTable,
  stateTable,
  viewColumns,
  type WindowPlan,
} from '../tables.ts';

/** How two states become one, and how many rows' states do. */
const merges = {
  // There is no min() and max() of booleans before Postgres 18.
  and: { two: (mine: string, theirs: string) => `least(${mine}, ${theirs})`, many: 'bool_and' },
  or: { two: (mine: string, theirs: string) => `greatest(${mine}, ${theirs})`, many: 'bool_or' },
  registers: {
    two: (mine: string, theirs: string) =>
      `coalesce(anabranch.merge_registers(${mine}, ${theirs}), ${mine}, ${theirs})`,
    many: 'anabranch.merge_registers',
  },
  sum: {
    two: (mine: string, theirs: string) => `coalesce(${mine} + ${theirs}, ${mine}, ${theirs})`,
    many: 'sum',
  },
  least: { two: (mine: string, theirs: string) => `least(${mine}, ${theirs})`, many: 'min' },
  greatest: { two: (mine: string, theirs: string) => `greatest(${mine}, ${theirs})`, many: 'max' },
} as const;

/**
 * Merges the staged states of a window table into its state table, none of them for a window that is
 * final. Rows are written in key order: so two instances that merge into the same rows can't
 * deadlock, and the new rows of a window stand together.
 */
export function mergeWindow(plan: WindowPlan): string {
  return upsert(plan, 'false');
}

/**
 * The same where some windows are final: rows of theirs become `corrected`, and what they said before
 * and after is recorded. Parameter 1: windows that end (plus grace) at or before this time are final;
 * it must be locked, see `lockFinalWatermark`.
 *
 * All parts of a statement read what was there when it began, so the state that is joined to what
 * the merge returns is the row before it.
 */
export function correctWindow(plan: WindowPlan): string {
  const { table } = plan;
  const [start, ...groups] = [columnOf(plan, 'window_start'), ...keyOf(plan).slice(1)];
  const rowKey = [
    `'window_start', m.${start}`,
    ...plan.columns
      .filter(({ role }) => role === 'key')
      .map(({ name }) => `${pg.escapeLiteral(name)}, m.${pg.escapeIdentifier(name)}`),
  ];
  const hasNull = groups.map((key) => `m.${key} IS NULL`).join(' OR ') || 'false';
  const before = (compare: string, condition: string): string =>
    `SELECT ${document(plan)} AS row FROM ${stateTable(table.name)} s
     WHERE ${[condition, `s.${start} = m.${start}`, ...groups.map((key) => `s.${key} ${compare} m.${key}`)].join(' AND ')}`;
  // Nulls need a comparison that no index serves: only rows with one in their key make it. LIMIT
  // keeps the plan to a lookup a row: without statistics of the temporary table, the planner would
  // rather read the whole state table.
  return `
    WITH merged AS (${upsert(plan, `${completeAt(plan, 't')} <= $1::timestamptz`)}
      RETURNING *)
    INSERT INTO anabranch.corrections (table_name, row_key, before, after)
    SELECT ${pg.escapeLiteral(table.name)}, jsonb_build_object(${rowKey.join(', ')}), b.row,
      (SELECT ${document(plan)} FROM (SELECT m.*) s)
    FROM merged m
    LEFT JOIN LATERAL (
      ${before('=', `NOT (${hasNull})`)}
      UNION ALL
      ${before('IS NOT DISTINCT FROM', `(${hasNull})`)}
      LIMIT 1) b ON true
    WHERE ${completeAt(plan, 'm')} <= $1::timestamptz`;
}

function upsert(plan: WindowPlan, isFinal: string): string {
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
    SELECT ${[...keys, ...merged].join(', ')}, 1, ${isFinal}, now()
    FROM ${stagingTable(plan.table.name)} t
    GROUP BY ${keys.join(', ')}
    ORDER BY ${keys.join(', ')}
    ON CONFLICT (${keys.join(', ')}) DO UPDATE SET
      ${updates.join(',\n      ')},
      _revision = s._revision + 1,
      _corrected = s._corrected OR excluded._corrected,
      _updated_at = excluded._updated_at`;
}

/** The row as the user's view shows it, but for what changes with time alone. */
function document(plan: WindowPlan): string {
  const columns = viewColumns(plan)
    .filter(({ name }) => name !== 'status' && name !== 'updated_at')
    .map(({ name, sql }) => `${sql} AS ${pg.escapeIdentifier(name)}`);
  return `(SELECT to_jsonb(r) FROM (SELECT ${columns.join(', ')}) r)`;
}
