import { execFileSync } from 'node:child_process';
import {
  chmodSync,
  chownSync,
  mkdirSync,
  mkdtempSync,
  rmSync,
  statfsSync,
  statSync,
  writeFileSync,
} from 'node:fs';
import { tmpdir } from 'node:os';
import path from 'node:path';
import {
  freePort,
  type LocalKafka,
  type LocalPostgres,
  startKafka,
  startPostgres,
} from '@anabranch/servers';
import pg from 'pg';
import type { SmallDisk } from './field.ts';
import { PostgresProxy } from './postgres-proxy.ts';
import { Proxy } from './proxy.ts';

/** A broker and a Postgres to be hard on, with a proxy in front of each. */
export interface FireServers {
  readonly kafka: LocalKafka;
  readonly postgres: LocalPostgres;
  readonly kafkaProxy: Proxy;
  readonly postgresProxy: PostgresProxy;
  readonly spoolDisk: SmallDisk | null;
  readonly tablespaceDisk: SmallDisk | null;
  stop(): Promise<void>;
}

export async function startFireServers(): Promise<FireServers> {
  const directory = mkdtempSync(path.join(tmpdir(), 'anabranch-fire-'));
  const listener = await freePort();
  const kafkaProxy = await Proxy.open(listener);
  const [kafka, postgres] = await Promise.all([
    startKafka({
      directory: path.join(directory, 'kafka'),
      proxied: { port: listener, advertised: kafkaProxy.port },
    }),
    startPostgres({
      directory: path.join(directory, 'postgres'),
      // A deadlock is looked for sooner than after a second.
      settings: { deadlock_timeout: '200ms' },
    }),
  ]);
  const postgresProxy = await PostgresProxy.open(postgres.url);
  const spoolDisk = mountSmallDisk(path.join(directory, 'spool'), 64);
  // Below a folder of its own, since the user as whom Postgres runs may not enter the other one.
  const open = mkdtempSync(path.join(tmpdir(), 'anabranch-fire-disk-'));
  chmodSync(open, 0o711);
  const tablespaceDisk = mountSmallDisk(path.join(open, 'disk'), 512);
  if (tablespaceDisk !== null) {
    const { uid, gid } = statSync(path.join(directory, 'postgres/data'));
    await makeTablespace(postgres.url, path.join(tablespaceDisk.path, 'small'), uid, gid);
  }
  return {
    kafka,
    postgres,
    kafkaProxy,
    postgresProxy,
    spoolDisk,
    tablespaceDisk,
    stop: async () => {
      kafkaProxy.close();
      postgresProxy.proxy.close();
      await Promise.all([kafka.stop(), postgres.stop()]);
      for (const disk of [spoolDisk, tablespaceDisk]) {
        disk?.unmount();
      }
      for (const folder of [directory, open]) {
        rmSync(folder, { recursive: true, force: true });
      }
    },
  };
}

async function makeTablespace(
  databaseUrl: string,
  directory: string,
  uid: number,
  gid: number,
): Promise<void> {
  mkdirSync(directory, { mode: 0o700 });
  chownSync(directory, uid, gid);
  const client = new pg.Client({ connectionString: databaseUrl });
  await client.connect();
  await client.query(`CREATE TABLESPACE small LOCATION ${pg.escapeLiteral(directory)}`);
  await client.end();
}

/** @returns null where nobody may mount a file system */
function mountSmallDisk(
  directory: string,
  megabytes: number,
): (SmallDisk & { unmount(): void }) | null {
  mkdirSync(directory);
  try {
    const options = `size=${megabytes}m`;
    execFileSync('mount', ['-t', 'tmpfs', '-o', options, 'anabranch-fire', directory], {
      stdio: 'ignore',
    });
  } catch {
    return null;
  }
  const ballast = path.join(directory, 'ballast');
  return {
    path: directory,
    fill: () => {
      const { bavail, bsize } = statfsSync(directory);
      try {
        writeFileSync(ballast, Buffer.alloc(bavail * bsize));
      } catch {
        // Somebody else took some of it meanwhile: it is full all the same.
      }
    },
    free: () => rmSync(ballast, { force: true }),
    unmount: () => {
      execFileSync('umount', ['--lazy', directory]);
    },
  };
}
