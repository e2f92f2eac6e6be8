import { randomBytes } from 'node:crypto';
import type pg from 'pg';
import { expect, it, onTestFinished } from 'vitest';
import { migrate } from './migrate.ts';
import { createTables } from './tables.ts';
import { emptyDatabase, planWith, poolOn, totalPlan, upsertPlan, windowPlan } from './testing.ts';

async function migrated(): Promise<{ url: string; pool: pg.Pool; role: string }> {
  const { url, pool } = await emptyDatabase();
  await migrate(pool);
  // Roles belong to the whole server.
  const role = `reader_${randomBytes(5).toString('hex')}`;
  onTestFinished(async () => {
    await pool.query(`DO $$ BEGIN IF EXISTS (SELECT FROM pg_roles WHERE rolname = '${role}')
      THEN DROP OWNED BY ${role}; DROP ROLE ${role}; END IF; END $$`);
  });
  return { url, pool, role };
}

it('gives every table a view whose columns all say what they are', async () => {
  const { pool } = await migrated();
  await createTables(pool, planWith(), null);
  const { rows } = await pool.query<{ view: string; names: string[]; commented: boolean }>(
    `SELECT c.relname AS view, array_agg(a.attname::text ORDER BY a.attnum) AS names,
            bool_and(col_description(c.oid, a.attnum) IS NOT NULL) AND obj_description(c.oid) IS NOT NULL AS commented
     FROM pg_class c JOIN pg_attribute a ON a.attrelid = c.oid AND a.attnum > 0
     WHERE c.relkind = 'v' AND c.relnamespace = 'public'::regnamespace GROUP BY c.oid ORDER BY 1`,
  );
  const about = ['status', 'revision', 'stream_records', 'batch_records', 'updated_at'];
  expect(rows).toEqual([
    {
      view: 'all_rows',
      names: ['source_partition', 'source_offset', 'note', ...about],
      commented: true,
    },
    { view: 'latest', names: ['region', 'amount', ...about], commented: true },
    {
      view: 'per_minute',
      names: ['window_start', 'window_end', 'region', 'kind', 'total', 'low', 'high', ...about],
      commented: true,
    },
    {
      view: 'total',
      names: ['window_start', 'window_end', 'count', ...about],
      commented: true,
    },
  ]);
});

it('creates what is missing and leaves the rest, also when instances start at once', async () => {
  const { pool, role } = await migrated();
  const one = planWith([windowPlan]);
  await Promise.all([createTables(pool, one, role), createTables(pool, one, role)]);
  await pool.query(
    `INSERT INTO anabranch.state_per_minute VALUES (now(), 'north', 1, 5, 5, 'x', 1, 0, 1, false, now())`,
  );
  await createTables(pool, planWith([windowPlan, upsertPlan]), role);
  expect((await pool.query('SELECT region FROM per_minute')).rows).toEqual([{ region: 'north' }]);
  expect((await pool.query('SELECT * FROM latest')).rows).toEqual([]);
});

it('makes the views anew where the definition names another schema or somebody dropped them', async () => {
  const { pool, role } = await migrated();
  await createTables(pool, planWith([windowPlan, totalPlan]), role);
  await pool.query('DROP VIEW total');
  await createTables(pool, planWith([windowPlan], 'analytics'), role);
  await createTables(pool, planWith([totalPlan]), role);
  const { rows } = await pool.query(
    `SELECT format('%s.%s', schemaname, viewname) AS view FROM pg_views WHERE schemaname IN ('public', 'analytics') ORDER BY 1`,
  );
  expect(rows).toEqual([
    { view: 'analytics.per_minute' },
    { view: 'public.per_minute' },
    { view: 'public.total' },
  ]);
});

it('refuses a table of another definition, and changes nothing', async () => {
  const { pool } = await migrated();
  await createTables(pool, planWith([windowPlan]), null);
  const changed = { ...windowPlan, table: { ...windowPlan.table, hash: 'per_minute-2' } };
  await expect(createTables(pool, planWith([upsertPlan, changed]), null)).rejects.toMatchObject({
    code: 'TABLE_CHANGED',
    message: expect.stringContaining('per_minute_2') as string,
  });
  const { rows } = await pool.query('SELECT table_name, hash FROM anabranch.tables');
  expect(rows).toEqual([{ table_name: 'per_minute', hash: 'per_minute-1' }]);
});

it.each(['CREATE TABLE public.per_minute ()', `CREATE TYPE public.per_minute AS ENUM ('x')`])(
  'refuses a name that the schema already has: %s',
  async (statement) => {
    const { pool } = await migrated();
    await pool.query(statement);
    await expect(createTables(pool, planWith([windowPlan]), null)).rejects.toMatchObject({
      code: 'NAME_TAKEN',
      message: expect.stringContaining('per_minute') as string,
    });
    expect((await pool.query('SELECT FROM anabranch.tables')).rowCount).toBe(0);
  },
);

it('lets readers read the views and the ledger, and neither write nor see anything else', async () => {
  const { url, pool, role } = await migrated();
  await createTables(pool, planWith(), role);
  await pool.query(`ALTER ROLE ${role} LOGIN PASSWORD 'secret'`);
  const address = new URL(url);
  address.username = role;
  address.password = 'secret';
  const reader = poolOn(address.href);
  onTestFinished(() => reader.end());

  const { rows } = await pool.query<{ name: string; kind: string; schema: string }>(
    `SELECT format('%I.%I', n.nspname, c.relname) AS name, n.nspname AS schema, c.relkind::text AS kind
     FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
     WHERE c.relkind IN ('r', 'v') AND n.nspname IN ('public', 'anabranch')`,
  );
  const closed: string[] = [];
  for (const { name } of rows) {
    const code = await reader.query(`SELECT FROM ${name}`).then(
      () => null,
      (error: { code?: string }) => error.code,
    );
    if (code !== null) {
      expect(code).toBe('42501');
      closed.push(name);
    }
    for (const statement of [`DELETE FROM ${name}`, `INSERT INTO ${name} DEFAULT VALUES`]) {
      await expect(reader.query(statement)).rejects.toThrow(
        /permission denied|cannot (delete|insert)/,
      );
    }
  }
  expect(closed.toSorted()).toEqual([
    'anabranch.migrations',
    'anabranch.state_all_rows',
    'anabranch.state_latest',
    'anabranch.state_per_minute',
    'anabranch.state_total',
  ]);
  expect(rows.filter(({ schema }) => schema === 'public')).toHaveLength(4);
  await expect(reader.query('CREATE TABLE anabranch.mine ()')).rejects.toMatchObject({
    code: '42501',
  });
});
