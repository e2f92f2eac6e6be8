import { readdirSync, readFileSync } from 'node:fs';
import { fileURLToPath } from 'node:url';
import { expect, it } from 'vitest';
import { ledgerUses } from './privileges.ts';

it('what a statement writes to is among the privileges that fusion is checked for', () => {
  const folder = fileURLToPath(new URL('sql/', import.meta.url));
  const written = new Set<string>();
  for (const file of readdirSync(folder)) {
    // accept-loss.ts is run by an administrator.
    if (/\.test\.ts$|^accept-loss/.test(file)) {
      continue;
    }
    const text = readFileSync(folder + file, 'utf8');
    for (const [, verb, table] of text.matchAll(/(INSERT INTO|UPDATE) anabranch\.([a-z_]+)/g)) {
      written.add(`${verb === 'UPDATE' ? 'UPDATE' : 'INSERT'} ${table}`);
    }
    for (const [, table] of text.matchAll(
      /INSERT INTO anabranch\.([a-z_]+)(?:(?!INSERT INTO)[^;`])*DO\s+UPDATE/g,
    )) {
      written.add(`UPDATE ${table}`);
    }
  }
  const listed = Object.entries(ledgerUses).flatMap(([table, privileges]) =>
    privileges.map((privilege) => `${privilege} ${table}`),
  );
  expect(written.size).toBeGreaterThan(15);
  expect([...written].filter((use) => !listed.includes(use))).toEqual([]);
});
