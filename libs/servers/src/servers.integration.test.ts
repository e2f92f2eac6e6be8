import { type ChildProcess, spawn } from 'node:child_process';
import { once } from 'node:events';
import {
  existsSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  rmSync,
  writeFileSync,
} from 'node:fs';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { createInterface } from 'node:readline';
import pg from 'pg';
import { afterAll, beforeAll, describe, expect, inject, it, onTestFinished, vi } from 'vitest';
import type { ServersError } from './errors.ts';
import { startKafka } from './kafka.ts';
import { answersAsKafka } from './kafka-probe.ts';
import { startPostgres } from './postgres.ts';
import { postgresUser } from './postgres-binaries.ts';
import { childrenOf, identify, isRunning, type ProcessIdentity } from './process-identity.ts';
import { type Servers, startServers } from './servers.ts';

let directory: string;

// One for all tests, so that most find data of an earlier one, and initdb runs but twice.
beforeAll(() => {
  // Of mode 0700: as root, Postgres runs as a user who can't get there by the path. And with all
  // that a properties file, a list of directories or a shell could stumble over.
  directory = path.join(mkdtempSync(path.join(tmpdir(), 'anabranch-servers-')), "a 'b', ü=1");
  mkdirSync(directory);
});

afterAll(() => {
  rmSync(path.dirname(directory), { recursive: true });
});

async function query<Row extends pg.QueryResultRow>(url: string, sql: string): Promise<Row[]> {
  const client = new pg.Client({ connectionString: url });
  client.on('error', () => {});
  await client.connect();
  try {
    return (await client.query<Row>(sql)).rows;
  } finally {
    await client.end();
  }
}

const createKept = 'DROP TABLE IF EXISTS kept; CREATE TABLE kept AS SELECT 7 AS seven';

function answers({ brokers }: { brokers: string }): Promise<boolean> {
  const [host = '', port] = brokers.split(':');
  return answersAsKafka(host, Number(port));
}

function clusterId(): string | undefined {
  const file = path.join(directory, 'kafka', 'data', 'meta.properties');
  return /^cluster\.id=.+$/m.exec(readFileSync(file, 'utf8'))?.[0];
}

/** As its own note tells. */
function runningServer(name: 'kafka' | 'postgres'): ProcessIdentity {
  const note = readFileSync(path.join(directory, name, 'server.pid'), 'utf8');
  return JSON.parse(note) as ProcessIdentity;
}

/** It is of the server's process group, in which there is nobody else: Postgres' children leave it. */
function watchdogOf(server: ProcessIdentity): ProcessIdentity {
  const others = readdirSync('/proc')
    .filter((name) => /^\d+$/.test(name) && name !== String(server.pid))
    .filter((name) => {
      const stat = readIfPresent(`/proc/${name}/stat`);
      return stat.slice(stat.lastIndexOf(')')).split(' ')[3] === String(server.pid);
    });
  const watchdog = identify(Number(others[0]));
  if (others.length !== 1 || watchdog === undefined) {
    throw new Error(`The server has ${others.length} watchdogs`);
  }
  return watchdog;
}

function isFrozen(pid: number): boolean {
  return readIfPresent(`/proc/${pid}/stat`).includes(') T ');
}

function readIfPresent(file: string): string {
  try {
    return readFileSync(file, 'utf8');
  } catch {
    return '';
  }
}

it('keeps data and ports through a stop, and starts over when asked to', async () => {
  const first = await startServers({ directory });
  await query(first.databaseUrl, createKept);
  const cluster = clusterId();
  const processes = [runningServer('kafka'), runningServer('postgres')];
  await first.stop();
  expect(processes.some(isRunning)).toBe(false);

  const second = await startServers({ directory });
  expect(second).toMatchObject({ brokers: first.brokers, databaseUrl: first.databaseUrl });
  expect(await answers(second)).toBe(true);
  expect(await query(second.databaseUrl, 'SELECT seven FROM kept')).toEqual([{ seven: 7 }]);
  expect(clusterId()).toBe(cluster);
  await second.stop();

  const third = await startServers({ directory, fresh: true });
  onTestFinished(() => third.stop());
  await expect(query(third.databaseUrl, 'SELECT seven FROM kept')).rejects.toThrow('exist');
  expect(clusterId()).not.toBe(cluster);
});

describe('a process that runs servers', () => {
  const script = `
    import { startServers } from ${JSON.stringify(new URL('servers.ts', import.meta.url).href)};
    const [directory, brokers] = process.argv.slice(1);
    const servers = await startServers({ directory, brokers });
    console.log(JSON.stringify(servers));
    process.stdin.resume().on('data', (line) => {
      if (String(line) === 'return') process.stdin.destroy();
      if (String(line) === 'exit') process.exit(0);
      if (String(line) === 'throw') throw new Error('as told');
    });
  `;

  async function run(brokers = ''): Promise<ChildProcess & { servers: Servers }> {
    const parent = spawn(
      process.execPath,
      ['--input-type=module', '--eval', script, directory, brokers],
      { stdio: ['pipe', 'pipe', 'inherit'] },
    );
    onTestFinished(() => void parent.kill('SIGKILL'));
    const [line] = (await once(createInterface(parent.stdout), 'line')) as [string];
    return Object.assign(parent, { servers: JSON.parse(line) as Servers });
  }

  it('leaves none behind when it is killed, not even frozen ones', async () => {
    const parent = await run();
    const processes = [runningServer('kafka'), runningServer('postgres')];
    expect(processes.every(isRunning)).toBe(true);
    const watchdogs = processes.map(watchdogOf);
    processes.forEach(({ pid }) => process.kill(pid, 'SIGSTOP'));
    parent.kill('SIGKILL');
    await vi.waitUntil(() => ![...processes, ...watchdogs].some(isRunning), 20_000);
    // By a clean stop: Postgres removes this file at the end of one.
    expect(readdirSync(path.join(directory, 'postgres', 'data'))).not.toContain('postmaster.pid');
  });

  // The rest with Postgres alone: one supervisor runs both.
  it.each<[string, (parent: ChildProcess) => void]>([
    ['SIGTERM', (parent) => parent.kill('SIGTERM')],
    ['Ctrl-C', (parent) => parent.kill('SIGINT')],
    ['process.exit', (parent) => parent.stdin!.write('exit')],
    ['having nothing left to do', (parent) => parent.stdin!.write('return')],
  ])('leaves none behind when it ends by %s', async (_, end) => {
    const parent = await run(inject('kafkaBrokers'));
    const server = runningServer('postgres');
    const watchdog = watchdogOf(server);
    end(parent);
    await vi.waitUntil(() => ![server, watchdog].some(isRunning), 20_000);
    expect(readdirSync(path.join(directory, 'postgres', 'data'))).not.toContain('postmaster.pid');
  });

  it('has its directory for itself, until it is killed', async () => {
    const parent = await run();
    await query(parent.servers.databaseUrl, createKept);
    await expect(startServers({ directory })).rejects.toMatchObject({
      code: 'DIRECTORY_IN_USE',
      message: expect.stringContaining(`pid ${parent.pid}:`) as string,
    });

    // With the watchdogs out of the way the servers are there for sure when the next ones start.
    const processes = [runningServer('kafka'), runningServer('postgres')];
    for (const { pid } of processes.map(watchdogOf)) {
      process.kill(pid, 'SIGSTOP');
      onTestFinished(() => void process.kill(pid, 'SIGKILL'));
    }
    const exited = once(parent, 'exit');
    parent.kill('SIGKILL');
    await exited;
    expect(processes.every(isRunning)).toBe(true);
    const next = await startServers({ directory });
    onTestFinished(() => next.stop());
    expect(processes.some(isRunning)).toBe(false);
    expect(await query(next.databaseUrl, 'SELECT seven FROM kept')).toEqual([{ seven: 7 }]);
    expect(await answers(next)).toBe(true);
  });
});

function options(): { directory: string } {
  return { directory: path.join(directory, 'postgres') };
}

describe('faults', () => {
  it('brings Postgres back on its port with what was committed', async () => {
    const ends: ServersError[] = [];
    const postgres = await startPostgres({ ...options(), onEnd: (error) => ends.push(error) });
    onTestFinished(() => postgres.stop());
    await query(postgres.url, createKept);
    const { pid } = postgres;
    const children = childrenOf(pid!).flatMap((child) => identify(child) ?? []);
    expect(children.length).toBeGreaterThan(0);
    await postgres.kill();
    await vi.waitUntil(() => !children.some(isRunning));
    await postgres.restart();
    expect(postgres.pid).not.toBe(pid);
    expect(await query(postgres.url, 'SELECT seven FROM kept')).toEqual([{ seven: 7 }]);
    expect(ends).toEqual([]);
  });

  it('freezes Postgres with its sessions, and lets them go on', async () => {
    const postgres = await startPostgres(options());
    onTestFinished(() => postgres.stop());
    const client = new pg.Client({ connectionString: postgres.url });
    await client.connect();
    onTestFinished(() => client.end());
    postgres.pause();
    const processes = [postgres.pid!, ...childrenOf(postgres.pid!)];
    await vi.waitUntil(() => processes.every(isFrozen));
    const answer = client.query('SELECT 7 AS seven');
    postgres.resume();
    expect((await answer).rows).toEqual([{ seven: 7 }]);
  });

  it('stops a server that is frozen', async () => {
    const postgres = await startPostgres(options());
    postgres.pause();
    await postgres.stop();
    expect(postgres.pid).toBeUndefined();
    expect(postgres.logTail()).toContain('database system is shut down');
  });

  it('brings Kafka back on its port, and tells of an end that nobody asked for', async () => {
    const { promise: told, resolve: onEnd } = Promise.withResolvers<ServersError>();
    const kafka = await startKafka({ directory: path.join(directory, 'kafka'), onEnd });
    onTestFinished(() => kafka.stop());
    const cluster = clusterId();
    process.kill(kafka.pid!, 'SIGKILL');
    expect(await told).toMatchObject({ code: 'SERVER_ENDED' });
    expect(kafka.pid).toBeUndefined();
    expect(await answers(kafka)).toBe(false);
    await kafka.restart();
    expect(await answers(kafka)).toBe(true);
    expect(clusterId()).toBe(cluster);
  });

  it('says what the server said when it does not start', async () => {
    const start = startPostgres({ ...options(), settings: { shared_buffers: 'plenty' } });
    await expect(start).rejects.toMatchObject({
      code: 'START_FAILED',
      message: expect.stringMatching(
        /invalid value for parameter "shared_buffers": "plenty"/,
      ) as string,
    });
    // And its directory is free again.
    const postgres = await startPostgres(options());
    await postgres.stop();
  });

  it('does not touch data of another version of Postgres', async () => {
    const postgres = await startPostgres(options());
    await postgres.stop();
    const file = path.join(directory, 'postgres', 'data', 'PG_VERSION');
    writeFileSync(file, '17\n');
    onTestFinished(() => writeFileSync(file, '18\n'));
    await expect(startPostgres(options())).rejects.toMatchObject({ code: 'DATA_VERSION' });
  });

  it('starts though the pid in a file that a crash left is now that of somebody else', async () => {
    const postgres = await startPostgres(options());
    await postgres.kill();
    await postgres.stop();
    const file = path.join(directory, 'postgres', 'data', 'postmaster.pid');
    const lines = readFileSync(file, 'utf8').split('\n');
    // Of the same user: Postgres itself sees through the others.
    const somebody = spawn('sleep', ['60'], { ...postgresUser() });
    onTestFinished(() => void somebody.kill());
    writeFileSync(file, [somebody.pid, ...lines.slice(1)].join('\n'));
    const again = await startPostgres(options());
    onTestFinished(() => again.stop());
    expect(await query(again.url, 'SELECT 1 AS one')).toEqual([{ one: 1 }]);
  });
});

describe("the user's own servers", () => {
  const brokers = inject('kafkaBrokers');
  const databaseUrl = inject('databaseUrl');

  it('are used as they are, and left running', async () => {
    const unused = path.join(directory, 'unused');
    const servers = await startServers({ directory: unused, brokers, databaseUrl });
    expect(servers).toMatchObject({ brokers, databaseUrl });
    expect(existsSync(unused)).toBe(false);
    await servers.stop();
    expect(await answers(servers)).toBe(true);
    expect(await query(databaseUrl, 'SELECT 1 AS one')).toEqual([{ one: 1 }]);
  });

  it('are enough when one of several brokers answers', async () => {
    const some = `127.0.0.1:1,${brokers}`;
    const servers = await startServers({ directory, brokers: some, databaseUrl });
    expect(servers.brokers).toBe(some);
  });

  it.each([
    ['nothing listens', '127.0.0.1:1'],
    ['something else listens', new URL(databaseUrl).host],
    ['the host is unknown', 'kafka.invalid:9092'],
    ['there is no port', 'localhost'],
  ])('are refused by name when %s', async (_, wrong) => {
    await expect(startServers({ directory, databaseUrl, brokers: wrong })).rejects.toMatchObject({
      code: 'UNREACHABLE',
      message: expect.stringMatching(
        new RegExp(`KAFKA_BROKERS.*${wrong}|${wrong}.*KAFKA_BROKERS`),
      ) as string,
    });
  });

  it.each([
    ['the password is wrong', (url: URL) => (url.password = 'opensesame'), 'authentication failed'],
    [
      'the database is missing',
      (url: URL) => (url.pathname = '/nowhere'),
      '"nowhere" does not exist',
    ],
    ['nothing listens', (url: URL) => (url.port = '1'), 'ECONNREFUSED'],
  ])('are refused, without showing the password, when %s', async (_, change, reason) => {
    const url = new URL(databaseUrl);
    change(url);
    const error: unknown = await startServers({ directory, brokers, databaseUrl: url.href }).catch(
      (thrown: unknown) => thrown,
    );
    expect(error).toMatchObject({ code: 'UNREACHABLE' });
    const { message } = error as ServersError;
    expect(message).toContain(reason);
    expect(message).toContain('DATABASE_URL');
    expect(message).not.toContain(url.password);
  });
});
