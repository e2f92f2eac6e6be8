import { randomBytes } from 'node:crypto';
import pg from 'pg';

/**
 * Makes an empty database beside the given one, for a test of its own.
 *
 * @param url of any database of that server, as a user who may create databases
 * @param prefix what the new one's name begins with: `fusion`; up to 40 of a-z, 0-9 and _
 * @returns the new database's URL
 */
export async function createDatabase(url: string, prefix: string): Promise<string> {
  if (!/^[a-z][a-z0-9_]{0,39}$/.test(prefix)) {
    throw new RangeError(`A database's prefix is a-z, 0-9 and _, up to 40 of them: not ${prefix}`);
  }
  const name = `${prefix}_${randomBytes(6).toString('hex')}`;
  await execute(url, `CREATE DATABASE ${pg.escapeIdentifier(name)}`);
  const created = new URL(url);
  created.pathname = `/${name}`;
  return created.href;
}

/**
 * Drops a database made by createDatabase, and the connections to it.
 *
 * @param url what createDatabase returned
 */
export async function dropDatabase(url: string): Promise<void> {
  const server = new URL(url);
  const name = decodeURIComponent(server.pathname.slice(1));
  server.pathname = '/postgres';
  await execute(server.href, `DROP DATABASE IF EXISTS ${pg.escapeIdentifier(name)} WITH (FORCE)`);
}

/** Makes the database unless it exists. */
export async function ensureDatabase(url: string, name: string): Promise<void> {
  const { rowCount } = await execute(url, 'SELECT FROM pg_database WHERE datname = $1', [name]);
  if (rowCount === 0) {
    await execute(url, `CREATE DATABASE ${pg.escapeIdentifier(name)}`);
  }
}

async function execute(
  url: string,
  statement: string,
  values: string[] = [],
): Promise<pg.QueryResult> {
  const client = new pg.Client({ connectionString: url });
  client.on('error', () => {});
  try {
    await client.connect();
    return await client.query(statement, values);
  } finally {
    await client.end();
  }
}
