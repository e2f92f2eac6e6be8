import { existsSync, readdirSync } from 'node:fs';
import path from 'node:path';
import type { Chain } from '../../chain.ts';
import { openTransactions } from './topics.ts';

/**
 * What the services have left behind after they were asked to stop, and did.
 * @param brokers as this process reaches them
 * @param spools where batch-processors had their spools
 */
export async function leftovers(
  chain: Chain,
  brokers: string,
  spools: readonly string[],
): Promise<string[]> {
  const found: string[] = [];
  for (const source of chain.sources) {
    found.push(...(await openTransactions(chain, brokers, source)));
  }
  const sessions = await chain.query(`
    SELECT 'session' AS what, application_name AS name, state FROM pg_stat_activity
      WHERE datname = current_database() AND application_name LIKE 'anabranch.%'
    UNION ALL SELECT 'slot', slot_name, NULL FROM pg_replication_slots
    UNION ALL SELECT 'prepared transaction', gid, NULL FROM pg_prepared_xacts WHERE database = current_database()
    UNION ALL SELECT 'advisory lock', objid::text, NULL FROM pg_locks l JOIN pg_database d ON d.oid = l.database
      WHERE locktype = 'advisory' AND datname = current_database()
    UNION ALL SELECT 'temporary file', name, NULL FROM pg_ls_tmpdir()
    UNION ALL SELECT 'temporary table', n.nspname || '.' || relname, NULL FROM pg_class c JOIN pg_namespace n ON n.oid = relnamespace
      WHERE n.nspname LIKE 'pg_temp%' AND relkind = 'r'`);
  found.push(...sessions.map((row) => JSON.stringify(row)));
  for (const spool of spools) {
    found.push(...filesBelow(spool).map((file) => `spool file ${file}`));
  }
  return found;
}

function filesBelow(directory: string): string[] {
  if (!existsSync(directory)) {
    return [];
  }
  return readdirSync(directory, { recursive: true, withFileTypes: true })
    .filter((entry) => entry.isFile())
    .map((entry) => path.join(entry.parentPath, entry.name));
}
