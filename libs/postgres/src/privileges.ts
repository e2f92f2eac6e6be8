import type { TablePlan } from '@anabranch/compute';
import type pg from 'pg';
import { errorCode, PostgresError } from './errors.ts';
import { stateTable } from './tables.ts';

type Privilege = 'SELECT' | 'INSERT' | 'UPDATE';

const read: readonly Privilege[] = ['SELECT'];
const add: readonly Privilege[] = ['INSERT'];
const change: readonly Privilege[] = ['SELECT', 'INSERT', 'UPDATE'];

/** What fusion does with the tables of schema `anabranch`, once they are there. */
export const ledgerUses: Readonly<Record<string, readonly Privilege[]>> = {
  migrations: read,
  tables: read,
  sources: change,
  split_rules: add,
  frontier: change,
  positions: change,
  ledger: change,
  table_counts: change,
  dead_letters: add,
  conflicts: add,
  corrections: add,
  runs: change,
  run_ranges: change,
  stage_costs: change,
  prediction_errors: change,
  table_costs: change,
  cost_models: change,
  decisions: add,
};

/**
 * Looks whether the role that is logged in may do all that fusion does with these tables and the ledger.
 * @throws PostgresError `NOT_PERMITTED` that names what it may not, and the statements that mend it
 */
export async function checkPrivileges(pool: pg.Pool, tables: Iterable<TablePlan>): Promise<void> {
  const missing = await missingPrivileges(pool, tables);
  if (missing !== null) {
    throw missing;
  }
}

/**
 * The error to end with when Postgres denies a statement: that which names the missing privileges; the
 * given one when it is of another kind, or they can't be told.
 */
export async function namingPrivileges(
  pool: pg.Pool,
  tables: Iterable<TablePlan>,
  error: unknown,
): Promise<unknown> {
  if (errorCode(error) !== '42501' && errorCode(error) !== 'NOT_PERMITTED') {
    return error;
  }
  const missing = await missingPrivileges(pool, tables, error).catch(() => null);
  // The step loop would try again what no trying mends.
  return Object.assign(missing ?? (error as Error), { fatal: true });
}

async function missingPrivileges(
  pool: pg.Pool,
  tables: Iterable<TablePlan>,
  cause?: unknown,
): Promise<PostgresError | null> {
  const { rows: schemas } = await pool.query<{ role: string; usable: boolean | null }>(
    `SELECT current_user AS role,
       (SELECT has_schema_privilege(oid, 'USAGE') FROM pg_namespace WHERE nspname = 'anabranch') AS usable`,
  );
  const { role = '', usable = null } = schemas[0] ?? {};
  if (usable === null) {
    return null;
  }
  if (!usable) {
    return denied(role, ['USAGE ON SCHEMA anabranch'], cause);
  }
  const uses = [
    ...Object.entries(ledgerUses).map(([name, needed]) => [`anabranch.${name}`, needed] as const),
    ...[...tables].map(
      ({ table }) => [stateTable(table.name), table.kind === 'append' ? add : change] as const,
    ),
  ];
  const pairs = uses.flatMap(([name, needed]) => needed.map((privilege) => ({ name, privilege })));
  const { rows } = await pool.query<{ name: string; privileges: string }>(
    `SELECT name, string_agg(privilege, ', ' ORDER BY number) AS privileges
     FROM unnest($1::text[], $2::text[]) WITH ORDINALITY AS use (name, privilege, number)
     WHERE NOT has_table_privilege(to_regclass(name), privilege)
     GROUP BY name ORDER BY min(number)`,
    [pairs.map(({ name }) => name), pairs.map(({ privilege }) => privilege)],
  );
  return rows.length === 0
    ? null
    : denied(
        role,
        rows.map(({ name, privileges }) => `${privileges} ON ${name}`),
        cause,
      );
}

function denied(role: string, missing: readonly string[], cause: unknown): PostgresError {
  const grants = missing.map((privilege) => `GRANT ${privilege} TO ${role};`).join(' ');
  return new PostgresError(
    'NOT_PERMITTED',
    `Role ${role} needs ${missing.join(', ')}: run docker/security/postgres-roles.sql again, or ${grants}`,
    { cause },
  );
}
