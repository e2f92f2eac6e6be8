import { loadPlan, type Plan } from '@anabranch/compute';
import {
  checkPrivileges,
  checkServer,
  createTables,
  isUnavailable,
  migrate,
  namingPrivileges,
  openPool,
} from '@anabranch/postgres';
import {
  ConfigError,
  type Environment,
  type ExitCode,
  exitCodes,
  messageOf,
  readConfig,
} from '@anabranch/service';
import type pg from 'pg';
import { config } from './config.ts';
import { databaseConnection } from './database-settings.ts';

/**
 * Makes what is missing of the ledger, the tables and the views, as a role that need not be fusion's.
 * @throws PostgresError; `NOT_PERMITTED` names what is missing
 */
export async function setUp(pool: pg.Pool, plan: Plan, readerRole: string): Promise<void> {
  try {
    await migrate(pool);
    await createTables(pool, plan, readerRole);
    await checkPrivileges(pool, plan.tables.values());
  } catch (error) {
    throw await namingPrivileges(pool, plan.tables.values(), error);
  }
}

/**
 * `main.mjs migrate`: does what fusion does at its start in Postgres, and ends; for the owner of the
 * tables, where fusion's own role may not make any.
 * @param print gets what there is to say, a line each
 */
export async function runMigrate(
  env: Environment,
  print: (line: string) => void,
  exitCodeOf: (error: unknown) => ExitCode | undefined,
): Promise<ExitCode> {
  try {
    const settings = readConfig(config, env);
    const plan = await loadPlan(settings.ANABRANCH_DEFINITION);
    const pool = openPool({
      ...databaseConnection(settings),
      applicationName: 'anabranch.fusion.migrate',
      size: 1,
      // The statement reports it.
      onError: () => undefined,
    });
    try {
      await checkServer(pool);
      await setUp(pool, plan, settings.READER_ROLE);
    } finally {
      await pool.end();
    }
    print(`Schema anabranch and ${plan.tables.size} tables are there.`);
    return exitCodes.ok;
  } catch (error) {
    print(error instanceof ConfigError ? error.faults.join('\n') : messageOf(error));
    return error instanceof ConfigError
      ? exitCodes.config
      : isUnavailable(error)
        ? exitCodes.unavailable
        : (exitCodeOf(error) ?? exitCodes.internal);
  }
}
