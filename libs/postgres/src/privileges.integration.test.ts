import { randomBytes } from 'node:crypto';
import type pg from 'pg';
import { expect, it, onTestFinished } from 'vitest';
import { migrate } from './migrate.ts';
import { checkPrivileges, namingPrivileges } from './privileges.ts';
import { createTables } from './tables.ts';
import { emptyDatabase, planWith, poolOn } from './testing.ts';

/** A database that its owner has set up, and a role that may do nothing there yet. */
async function setUp(): Promise<{ owner: pg.Pool; writer: pg.Pool; role: string; reader: string }> {
  const { url, pool: owner } = await emptyDatabase();
  const unique = randomBytes(5).toString('hex');
  const [role, reader] = [`writer_${unique}`, `reader_${unique}`];
  await migrate(owner);
  await createTables(owner, planWith(), reader);
  await owner.query(`CREATE ROLE ${role} LOGIN PASSWORD 'canary'`);
  const login = new URL(url);
  login.username = role;
  login.password = 'canary';
  const writer = poolOn(login.href);
  onTestFinished(async () => {
    await writer.end();
    await owner.query(`DROP OWNED BY ${role}, ${reader}; DROP ROLE ${role}, ${reader}`);
  });
  return { owner, writer, role, reader };
}

const tables = [...planWith().tables.values()];

it('a role that may not even look into the schema is told so', async () => {
  const { writer, role } = await setUp();
  await expect(checkPrivileges(writer, tables)).rejects.toMatchObject({
    code: 'NOT_PERMITTED',
    message: expect.stringContaining(`GRANT USAGE ON SCHEMA anabranch TO ${role};`) as string,
  });
});

it('each missing privilege is named, with its table and the statement that grants it', async () => {
  const { owner, writer, role } = await setUp();
  await owner.query(`GRANT USAGE ON SCHEMA anabranch TO ${role};
    GRANT SELECT, INSERT, UPDATE ON ALL TABLES IN SCHEMA anabranch TO ${role}`);
  await checkPrivileges(writer, tables);
  await owner.query(`REVOKE UPDATE ON anabranch.frontier FROM ${role};
    REVOKE INSERT, SELECT ON anabranch.state_per_minute FROM ${role}`);
  await expect(checkPrivileges(writer, tables)).rejects.toMatchObject({
    code: 'NOT_PERMITTED',
    message: expect.stringMatching(
      new RegExp(
        `^Role ${role} needs UPDATE ON anabranch.frontier, SELECT, INSERT ON anabranch."state_per_minute": .*GRANT UPDATE ON anabranch.frontier TO ${role};`,
      ),
    ) as string,
  });
});

it('a statement that is denied ends the work with the privilege that it lacked, others stay as they are', async () => {
  const { owner, writer, role } = await setUp();
  await owner.query(`GRANT USAGE ON SCHEMA anabranch TO ${role};
    GRANT SELECT, INSERT, UPDATE ON ALL TABLES IN SCHEMA anabranch TO ${role};
    REVOKE INSERT ON anabranch.dead_letters FROM ${role}`);
  const denied: unknown = await writer
    .query('INSERT INTO anabranch.dead_letters DEFAULT VALUES')
    .catch((error: unknown) => error);
  expect(await namingPrivileges(writer, tables, denied)).toMatchObject({
    code: 'NOT_PERMITTED',
    fatal: true,
    message: expect.stringContaining('needs INSERT ON anabranch.dead_letters') as string,
  });
  const other = Object.assign(new Error('deadlock'), { code: '40P01' });
  expect(await namingPrivileges(writer, tables, other)).toBe(other);
});

it('where all is set up, its role needs no right to create or to grant', async () => {
  const { owner, writer, role, reader } = await setUp();
  await owner.query(`GRANT USAGE ON SCHEMA anabranch TO ${role};
    GRANT SELECT, INSERT, UPDATE ON ALL TABLES IN SCHEMA anabranch TO ${role}`);
  await migrate(writer);
  await createTables(writer, planWith(), reader);
  await owner.query(`REVOKE SELECT ON anabranch.balance FROM ${reader}`);
  const mayRead = async (): Promise<unknown> => {
    const { rows } = await owner.query<{ may: boolean }>(
      `SELECT has_table_privilege($1, 'anabranch.balance', 'SELECT') AS may`,
      [reader],
    );
    return rows[0]?.may;
  };
  // What only the owner can give isn't asked of fusion, which doesn't need it.
  await createTables(writer, planWith(), reader);
  expect(await mayRead()).toBe(false);
  await createTables(owner, planWith(), reader);
  expect(await mayRead()).toBe(true);
});
