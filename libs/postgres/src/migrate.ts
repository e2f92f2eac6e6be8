import { createHash } from 'node:crypto';
import type pg from 'pg';
import { errorCode, PostgresError } from './errors.ts';
import { ledger } from './migrations/001-ledger.ts';
import { losses } from './migrations/002-losses.ts';
import { costs } from './migrations/003-costs.ts';
import { sketches } from './migrations/004-sketches.ts';
import { createSchema } from './tables.ts';
import { transaction } from './transaction.ts';

/** In order; once released, one is never changed, only followed by another. */
const migrations: readonly { name: string; sql: string }[] = [
  { name: '001-ledger', sql: ledger },
  { name: '002-losses', sql: losses },
  { name: '003-costs', sql: costs },
  { name: '004-sketches', sql: sketches },
];

/** Any constant: two services that start at once migrate one after the other. */
const advisoryLock = 4_242_001;

/**
 * Brings schema `anabranch` to the state that this version works on, in one transaction. Safe to
 * call from several instances at once.
 * @throws PostgresError `MIGRATION_CHANGED`, `MIGRATION_NEWER`, `NOT_PERMITTED`
 */
export async function migrate(pool: pg.Pool): Promise<void> {
  try {
    await transaction(pool, async (client) => {
      await client.query('SELECT pg_advisory_xact_lock($1)', [advisoryLock]);
      await createSchema(client, 'anabranch');
      const missing = await client.query(
        `SELECT WHERE to_regclass('anabranch.migrations') IS NULL`,
      );
      if (missing.rowCount === 1) {
        await client.query(
          `CREATE TABLE anabranch.migrations (
             name text COLLATE "C" PRIMARY KEY, checksum text NOT NULL, applied_at timestamptz NOT NULL DEFAULT now())`,
        );
      }
      const { rows } = await client.query<{ name: string; checksum: string }>(
        'SELECT name, checksum FROM anabranch.migrations ORDER BY name',
      );
      const applied = new Map(rows.map(({ name, checksum }) => [name, checksum]));
      for (const { name, sql } of migrations) {
        const checksum = createHash('sha256').update(sql).digest('hex');
        const known = applied.get(name);
        applied.delete(name);
        if (known === undefined) {
          await client.query(sql);
          await client.query('INSERT INTO anabranch.migrations (name, checksum) VALUES ($1, $2)', [
            name,
            checksum,
          ]);
        } else if (known !== checksum) {
          throw new PostgresError(
            'MIGRATION_CHANGED',
            `Migration ${name} was applied to this database in another form: it belongs to another build of Anabranch. Use a database of its own, or the build that made it.`,
          );
        }
      }
      const [unknown] = applied.keys();
      if (unknown !== undefined) {
        throw new PostgresError(
          'MIGRATION_NEWER',
          `The database was migrated by a newer version of Anabranch (${unknown}): upgrade this service.`,
        );
      }
    });
  } catch (cause) {
    if (errorCode(cause) === '42501') {
      throw new PostgresError(
        'NOT_PERMITTED',
        `Postgres refuses to set up schema anabranch (${(cause as Error).message}): let its owner run \`node main.mjs migrate\` of fusion, or grant CREATE on the database to this role.`,
        { cause },
      );
    }
    throw cause;
  }
}
