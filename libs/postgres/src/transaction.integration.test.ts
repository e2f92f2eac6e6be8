import { expect, it } from 'vitest';
import { errorCode, isUnavailable } from './errors.ts';
import { databaseWith, planWith, poolOn, totalPlan } from './testing.ts';
import { transaction } from './transaction.ts';

const kill = `SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name = 'victim'`;

it('commits what its work did, and rolls back when the work fails', async () => {
  const { pool, query } = await databaseWith(planWith([totalPlan]));
  await query('CREATE TABLE public.kept (id int)');
  await transaction(pool, (client) => client.query('INSERT INTO kept VALUES (1)'));
  const failure = new Error('no');
  await expect(
    transaction(pool, async (client) => {
      await client.query('INSERT INTO kept VALUES (2)');
      throw failure;
    }),
  ).rejects.toBe(failure);
  expect(await query('SELECT id FROM kept')).toEqual([{ id: 1 }]);
});

it('never takes a rollback for a commit, when its work swallows the error of a statement', async () => {
  const { pool } = await databaseWith(planWith([totalPlan]));
  await expect(
    transaction(pool, (client) => client.query('SELECT 1/0').catch(() => undefined)),
  ).rejects.toThrow('rolled back');
});

it('reports a connection that is lost between two statements as unavailable, and goes on with another', async () => {
  const { pool, query } = await databaseWith(planWith([totalPlan]));
  const lost = transaction(pool, async (client) => {
    await client.query(`SET application_name = 'victim'`);
    const ended = new Promise((resolve) => client.once('end', resolve));
    await query(kill);
    await ended;
    await client.query('SELECT 1');
  });
  await expect(lost.catch((error: unknown) => isUnavailable(error))).resolves.toBe(true);
  await transaction(pool, (client) => client.query('SELECT 1'));
});

it('says that the outcome is unknown when the connection is lost during COMMIT', async () => {
  const { url, pool, query } = await databaseWith(planWith([totalPlan]));
  // COMMIT runs the deferred trigger, and there it waits: the connection is lost in the middle of it.
  await query('CREATE TABLE public.kept (id int)');
  await query(`CREATE FUNCTION public.wait() RETURNS trigger LANGUAGE plpgsql AS
    'BEGIN PERFORM pg_advisory_xact_lock(7); RETURN NULL; END'`);
  await query(`CREATE CONSTRAINT TRIGGER wait AFTER INSERT ON kept DEFERRABLE INITIALLY DEFERRED
    FOR EACH ROW EXECUTE FUNCTION public.wait()`);
  const holder = poolOn(url);
  const blocker = await holder.connect();
  try {
    await blocker.query('SELECT pg_advisory_lock(7)');
    const lost = transaction(pool, async (client) => {
      await client.query(`SET application_name = 'victim'`);
      await client.query('INSERT INTO kept VALUES (1)');
    }).catch((error: unknown) => errorCode(error));
    for (let waiting = 0; waiting === 0;) {
      const [row] = await query(
        `SELECT count(*)::int AS waiting FROM pg_stat_activity WHERE application_name = 'victim' AND query = 'COMMIT' AND wait_event_type = 'Lock'`,
      );
      waiting = Number(row?.['waiting']);
    }
    await query(kill);
    expect(await lost).toBe('OUTCOME_UNKNOWN');
  } finally {
    blocker.release(true);
    await holder.end();
  }
  expect(await query('SELECT id FROM kept')).toEqual([]);
});

it('reads what is there now, whatever isolation the database has by default', async () => {
  const { url, query } = await databaseWith(planWith([totalPlan]));
  const name = new URL(url).pathname.slice(1);
  await query(`ALTER DATABASE "${name}" SET default_transaction_isolation = 'serializable'`);
  const pool = poolOn(url);
  try {
    const { rows } = await pool.query('SHOW transaction_isolation');
    expect(rows).toEqual([{ transaction_isolation: 'read committed' }]);
  } finally {
    await pool.end();
    await query(`ALTER DATABASE "${name}" RESET default_transaction_isolation`);
  }
});

it('keeps the temporary tables of a connection when a transaction is rolled back', async () => {
  const { pool } = await databaseWith(planWith([totalPlan]));
  const stage = 'SELECT FROM pg_temp.stage_total';
  await expect(
    transaction(pool, async (client) => {
      await client.query(stage);
      throw new Error('no');
    }),
  ).rejects.toThrow('no');
  await transaction(pool, (client) => client.query(stage));
});
