import { expect, it } from 'vitest';
import { migrate } from './migrate.ts';
import { emptyDatabase, poolOn, type Row } from './testing.ts';

it('does nothing the second time', async () => {
  const { pool } = await emptyDatabase();
  const applied = async (): Promise<unknown[]> =>
    (await pool.query<Row>('SELECT * FROM anabranch.migrations')).rows;
  await migrate(pool);
  const before = await applied();
  await migrate(pool);
  expect(await applied()).toEqual(before);
  expect(before).not.toEqual([]);
});

it('lets instances start at once', async () => {
  const { pool } = await emptyDatabase();
  await Promise.all([migrate(pool), migrate(pool), migrate(pool)]);
  const { rowCount } = await pool.query('SELECT FROM anabranch.migrations');
  expect(rowCount).toBeGreaterThan(0);
});

it('refuses a database that another build has migrated', async () => {
  const { pool } = await emptyDatabase();
  await migrate(pool);
  await pool.query(`UPDATE anabranch.migrations SET checksum = 'another'`);
  await expect(migrate(pool)).rejects.toMatchObject({
    code: 'MIGRATION_CHANGED',
    message: expect.stringContaining('001-ledger') as string,
  });
});

it('refuses a database of a newer version', async () => {
  const { pool } = await emptyDatabase();
  await migrate(pool);
  await pool.query(`INSERT INTO anabranch.migrations (name, checksum) VALUES ('999-later', '')`);
  await expect(migrate(pool)).rejects.toMatchObject({
    code: 'MIGRATION_NEWER',
    message: expect.stringContaining('999-later') as string,
  });
});

it('says which right is missing, and needs none of them once it is done', async () => {
  const { url, pool } = await emptyDatabase();
  const role = `migrator_${Math.random().toString(36).slice(2, 10)}`;
  await pool.query(`CREATE ROLE ${role} LOGIN PASSWORD 'secret'`);
  const limited = new URL(url);
  limited.username = role;
  limited.password = 'secret';
  const own = poolOn(limited.href);
  try {
    await expect(migrate(own)).rejects.toMatchObject({
      code: 'NOT_PERMITTED',
      message: expect.stringContaining('grant CREATE on the database') as string,
    });
    await migrate(pool);
    await pool.query(`GRANT USAGE ON SCHEMA anabranch TO ${role}`);
    await pool.query(`GRANT SELECT ON anabranch.migrations TO ${role}`);
    await migrate(own);
  } finally {
    await own.end();
    await pool.query(`DROP OWNED BY ${role}; DROP ROLE ${role}`);
  }
});
