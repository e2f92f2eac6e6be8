import { fileURLToPath } from 'node:url';
import { loadPlan } from '@anabranch/compute';
import { correctWindow, isWindow, mergeUpsert, mergeWindow } from '@anabranch/postgres';
import { databaseWith } from '@anabranch/postgres/testing';
import { expect, it } from 'vitest';

it('fits the plans that compute makes: every statement of the quick start is one that Postgres takes', async () => {
  const file = new URL('../../../examples/quick-start/anabranch.yaml', import.meta.url);
  const plan = await loadPlan(fileURLToPath(file));
  const { query } = await databaseWith(plan);
  for (const table of plan.tables.values()) {
    expect(await query(`SELECT * FROM ${table.table.name}`)).toEqual([]);
    const statements = isWindow(table)
      ? [mergeWindow(table), correctWindow(table)]
      : table.table.kind === 'upsert'
        ? [mergeUpsert(table)]
        : [];
    for (const [index, statement] of statements.entries()) {
      await query(statement, index === 0 ? [] : ['2026-01-01T00:00:00Z']);
    }
  }
});
