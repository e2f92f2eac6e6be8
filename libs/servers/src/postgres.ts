import { spawn } from 'node:child_process';
import { randomBytes } from 'node:crypto';
import { once } from 'node:events';
import {
  chownSync,
  closeSync,
  existsSync,
  mkdirSync,
  openSync,
  readFileSync,
  renameSync,
  rmSync,
  writeFileSync,
} from 'node:fs';
import path from 'node:path';
import type { Readable } from 'node:stream';
import { text } from 'node:stream/consumers';
import type { Certificate } from './certificates.ts';
import { ensureDatabase } from './databases.ts';
import { DirectoryLock } from './directory-lock.ts';
import { ServersError } from './errors.ts';
import { onFreePort } from './free-port.ts';
import { type PostgresUser, postgresBinaries, postgresUser } from './postgres-binaries.ts';
import { postgresFault } from './postgres-probe.ts';
import { identify } from './process-identity.ts';
import type { ServerOptions } from './server-options.ts';
import { endLeftover, SupervisedServer } from './supervised-server.ts';

export interface PostgresOptions extends ServerOptions {
  /** Settings of postgresql.conf, besides ours. */
  settings?: Record<string, string>;
  /** Lets clients in by TLS only, with this certificate, for 127.0.0.1; `ca` is its authority. */
  tls?: Certificate & { readonly ca: string };
}

export type LocalPostgres = SupervisedServer & {
  /** Of the database `anabranch`, as the superuser; with `tls` it names a file of the authority. */
  readonly url: string;
};

const majorVersion = '18';
const stopSignal = 'SIGINT';

/** For two cores that Kafka and four services share. fsync and synchronous_commit stay on. */
const defaultSettings = {
  listen_addresses: '127.0.0.1',
  unix_socket_directories: '',
  shared_buffers: '128MB',
  // Fewer checkpoints: the first update of a page after one costs a full page of WAL.
  max_wal_size: '2GB',
  wal_compression: 'off',
  log_checkpoints: 'off',
  log_min_messages: 'warning',
  timezone: 'UTC',
};

/**
 * Starts a Postgres 18 on 127.0.0.1 and waits until it answers. Started by root it runs as
 * `postgres` or `nobody`, who own its data, wherever the directory is.
 *
 * @throws ServersError
 */
export async function startPostgres(options: PostgresOptions): Promise<LocalPostgres> {
  const directory = path.resolve(options.directory);
  const { onProgress = () => {}, onEnd = () => {} } = options;
  const data = path.join(directory, 'data');
  const lock = new DirectoryLock(directory);
  try {
    const user = postgresUser();
    const binaries = postgresBinaries(user);
    await endLeftover(directory, stopSignal);
    if (options.fresh) {
      rmSync(data, { recursive: true, force: true });
    }
    const password = readOrMakePassword(directory, user, existsSync(data));
    if (!existsSync(data)) {
      onProgress('Preparing the data directory of Postgres');
      await initialise(binaries, data, user, path.join(directory, 'password'));
    }
    checkVersion(data);
    removeForeignPidFile(data);
    if (options.tls) {
      demandTls(directory, data, options.tls, user);
    }

    const start = async (port: number): Promise<LocalPostgres> => {
      onProgress('Starting Postgres');
      const url = (database: string): string =>
        `postgres://postgres:${password}@127.0.0.1:${port}/${database}${options.tls ? `?sslmode=verify-full&sslrootcert=${path.join(directory, authorityFile)}` : ''}`;
      const settings = {
        ...defaultSettings,
        ...(options.tls && { ssl: 'on' }),
        port: String(port),
        ...options.settings,
      };
      const server = new SupervisedServer(
        {
          name: 'Postgres',
          directory,
          program: path.join(binaries, 'bin', 'postgres'),
          arguments: [
            '-D',
            dataArgument(data, user),
            ...Object.entries(settings).flatMap(([name, value]) => ['-c', `${name}=${value}`]),
          ],
          cwd: data,
          env: environment(),
          user,
          stopSignal,
          isReady: async () => (await postgresFault(url('postgres'))) === undefined,
        },
        onEnd,
        () => lock.release(),
      );
      await server.start();
      await ensureDatabase(url('postgres'), 'anabranch');
      onProgress(`Postgres is ready at 127.0.0.1:${port}`);
      return Object.assign(server, { url: url('anabranch') });
    };
    return await onFreePort(directory, options.port, start);
  } catch (error) {
    lock.release();
    throw error;
  }
}

const authorityFile = 'authority.pem';

/** Postgres looks for these files in its data directory, and wants the key to be its own. */
function demandTls(
  directory: string,
  data: string,
  { ca, cert, key }: Certificate & { readonly ca: string },
  user: PostgresUser | undefined,
): void {
  writeFileSync(path.join(directory, authorityFile), ca);
  const files = {
    'server.crt': cert,
    'server.key': key,
    'pg_hba.conf': 'hostssl all all all scram-sha-256\n',
  };
  for (const [name, content] of Object.entries(files)) {
    const file = path.join(data, name);
    writeFileSync(file, content, { mode: 0o600 });
    if (user !== undefined) {
      chownSync(file, user.uid, user.gid);
    }
  }
}

/** Not ours: PGDATA, PGPORT and their like would have their say. */
function environment(): NodeJS.ProcessEnv {
  return { PATH: process.env['PATH'] || '/usr/bin:/bin', LC_ALL: 'C', TZ: 'UTC' };
}

/**
 * How Postgres is told its data directory. Another user may not be allowed to walk there, below a
 * folder of mode 0700: so we enter it while still root, and it calls the place
 * "where I am". (Linux only; elsewhere such a directory fails with Postgres' own message.)
 */
function dataArgument(data: string, user: PostgresUser | undefined): string {
  return user !== undefined && process.platform === 'linux' ? '/proc/self/cwd' : data;
}

/** Random, since every user of the machine can connect to 127.0.0.1. */
function readOrMakePassword(
  directory: string,
  user: PostgresUser | undefined,
  dataExist: boolean,
): string {
  const file = path.join(directory, 'password');
  if (!existsSync(file)) {
    if (dataExist) {
      throw new ServersError(
        'START_FAILED',
        `${file} is missing, without which the data beside it can't be read: put it back, or remove ${directory} to start over.`,
      );
    }
    writeFileSync(file, randomBytes(12).toString('hex'), { mode: 0o600 });
    if (user !== undefined) {
      chownSync(file, user.uid, user.gid);
    }
  }
  return readFileSync(file, 'utf8').trim();
}

/** All or nothing: it works in another folder that gets its name when done. */
async function initialise(
  binaries: string,
  data: string,
  user: PostgresUser | undefined,
  passwordFile: string,
): Promise<void> {
  const unfinished = `${data}.unfinished`;
  rmSync(unfinished, { recursive: true, force: true });
  mkdirSync(unfinished, { mode: 0o700 });
  if (user !== undefined) {
    chownSync(unfinished, user.uid, user.gid);
  }
  const password = openSync(passwordFile, 'r');
  try {
    const initdb = spawn(
      path.join(binaries, 'bin', 'initdb'),
      [
        `--pgdata=${dataArgument(unfinished, user)}`,
        '--username=postgres',
        '--auth=scram-sha-256',
        '--pwfile=/dev/stdin',
        '--encoding=UTF8',
        // Sorts by code point like C, yet knows the letters of all scripts: the same everywhere.
        '--locale=C',
        '--locale-provider=builtin',
        '--builtin-locale=C.UTF-8',
        '--no-instructions',
      ],
      {
        cwd: unfinished,
        env: environment(),
        ...user,
        stdio: [password, 'ignore', 'pipe'],
      },
    );
    const [messages, [code]] = await Promise.all([
      text(initdb.stderr as Readable),
      once(initdb, 'close') as Promise<[number | null]>,
    ]);
    if (code !== 0) {
      throw new ServersError('START_FAILED', `initdb failed in ${unfinished}:\n${messages}`);
    }
  } finally {
    closeSync(password);
  }
  renameSync(unfinished, data);
}

function checkVersion(data: string): void {
  const version = readFileSync(path.join(data, 'PG_VERSION'), 'utf8').trim();
  if (version !== majorVersion) {
    throw new ServersError(
      'DATA_VERSION',
      `The data in ${data} are of Postgres ${version}, and this is Postgres ${majorVersion}: start over with --fresh, or move them away and read them with a Postgres ${version}.`,
    );
  }
}

/**
 * After a SIGKILL, or in a container made anew, the pid in postmaster.pid can be that of any other
 * process by now, and Postgres refuses to start as long as that lives. The directory is locked and
 * no server of ours is left, so unless it is a Postgres (whoever started it), the file goes.
 * Postgres looks for processes that still use its shared memory besides.
 */
function removeForeignPidFile(data: string): void {
  const file = path.join(data, 'postmaster.pid');
  if (!existsSync(file)) {
    return;
  }
  const pid = Number.parseInt(readFileSync(file, 'utf8'), 10);
  if (identify(pid)?.command !== 'postgres') {
    rmSync(file, { force: true });
  }
}
