import { execFileSync } from 'node:child_process';
import { cpSync, existsSync, mkdtempSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { expect, it, onTestFinished } from 'vitest';
import { postgresBinaries, postgresUser } from './postgres-binaries.ts';

it('finds Postgres where its user can run it, with the links that npm left out', () => {
  // Of mode 0700, like the home of root.
  const home = mkdtempSync(path.join(tmpdir(), 'anabranch-home-'));
  onTestFinished(() => rmSync(home, { recursive: true }));
  const native = path.join(home, 'native');
  cpSync(postgresBinaries(undefined), native, { recursive: true, verbatimSymlinks: true });
  const links = JSON.parse(readFileSync(path.join(native, 'pg-symlinks.json'), 'utf8')) as {
    target: string;
  }[];
  for (const { target } of links) {
    rmSync(path.join(home, target));
  }

  const user = postgresUser();
  const binaries = postgresBinaries(user, native);
  if (user !== undefined) {
    onTestFinished(() => rmSync(binaries, { recursive: true }));
    expect(binaries).not.toBe(native);
  }
  expect(links.length).toBeGreaterThan(0);
  for (const { target } of links) {
    expect(
      existsSync(path.join(binaries, '..', target.replace('native', path.basename(binaries)))),
    ).toBe(true);
  }
  const version = execFileSync(path.join(binaries, 'bin', 'postgres'), ['--version'], {
    ...user,
    cwd: '/',
    encoding: 'utf8',
  });
  expect(version).toContain('(PostgreSQL) 18.');
  expect(postgresBinaries(user, native)).toBe(binaries);
});
