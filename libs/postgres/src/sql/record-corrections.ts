import pg from 'pg';
import {
  columnOf,
  completeAt,
  correctedTable,
  keyOf,
  stagingTable,
  stateTable,
  viewColumns,
  type WindowPlan,
} from '../tables.ts';

/** The row as the user's view shows it, but for what changes with time alone. */
function document(plan: WindowPlan): string {
  const columns = viewColumns(plan)
    .filter(({ name }) => name !== 'status' && name !== 'updated_at')
    .map(({ name, sql }) => `${sql} AS ${pg.escapeIdentifier(name)}`);
  return `(SELECT to_jsonb(r) FROM (SELECT ${columns.join(', ')}) r)`;
}

/**
 * The rows that are staged for final windows, each with its state `s`, in key order. Nulls need a
 * comparison that no index serves, so rows with one in their key are a statement of their own.
 * LATERAL and LIMIT keep the plan to one index lookup a row: without statistics of the temporary
 * table, the planner would read the whole state table.
 */
function touched(plan: WindowPlan, nulls: boolean, lock: '' | 'FOR UPDATE'): string {
  const keys = keyOf(plan);
  const [start, ...groups] = [columnOf(plan, 'window_start'), ...keys.slice(1)];
  const hasNull = groups.map((key) => `${key} IS NULL`).join(' OR ') || 'false';
  const equals = nulls ? 'IS NOT DISTINCT FROM' : '=';
  const same = [`s.${start} = t.${start}`, ...groups.map((key) => `s.${key} ${equals} t.${key}`)];
  return `
    (SELECT DISTINCT ${keys.join(', ')} FROM ${stagingTable(plan.table.name)} g
     WHERE ${completeAt(plan, 'g')} <= $1::timestamptz AND ${nulls ? '' : 'NOT'} (${hasNull})
     ORDER BY ${keys.join(', ')}) t
    CROSS JOIN LATERAL
    (SELECT * FROM ${stateTable(plan.table.name)} s WHERE ${same.join(' AND ')} LIMIT 1 ${lock}) s`;
}

function key(plan: WindowPlan): string {
  return `jsonb_build_array(${keyOf(plan)
    .map((column) => `t.${column}`)
    .join(', ')})`;
}

/**
 * Statements to run before the merge: they keep what final rows say now, and lock them.
 * Parameter 1: windows that end (plus grace) at or before this time are final.
 */
export function keepFinalRows(plan: WindowPlan): string[] {
  return [false, true].map(
    (nulls) => `
    INSERT INTO ${correctedTable(plan.table.name)} (_key, _before)
    SELECT ${key(plan)}, ${document(plan)} FROM ${touched(plan, nulls, 'FOR UPDATE')}`,
  );
}

/** Statements to run after the merge, with the same parameter: they record before and after. */
export function recordCorrections(plan: WindowPlan): string[] {
  const names = plan.columns.filter(({ role }) => role === 'window_start' || role === 'key');
  const rowKey = names
    .map(
      ({ name, role }) =>
        `${pg.escapeLiteral(role === 'window_start' ? 'window_start' : name)}, t.${pg.escapeIdentifier(name)}`,
    )
    .join(', ');
  return [false, true].map(
    (nulls) => `
    INSERT INTO anabranch.corrections (table_name, row_key, before, after)
    SELECT ${pg.escapeLiteral(plan.table.name)}, jsonb_build_object(${rowKey}), c._before, ${document(plan)}
    FROM ${touched(plan, nulls, '')}
    LEFT JOIN ${correctedTable(plan.table.name)} c ON c._key = ${key(plan)}`,
  );
}
