import { execFileSync } from 'node:child_process';
import { mkdirSync, mkdtempSync, rmSync, statfsSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import path from 'node:path';
import {
  freePort,
  type LocalKafka,
  type LocalPostgres,
  startKafka,
  startPostgres,
} from '@anabranch/servers';
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
  const disk = mountSmallDisk(path.join(directory, 'spool'));
  return {
    kafka,
    postgres,
    kafkaProxy,
    postgresProxy,
    spoolDisk: disk,
    stop: async () => {
      kafkaProxy.close();
      postgresProxy.proxy.close();
      await Promise.all([kafka.stop(), postgres.stop()]);
      disk?.unmount();
      rmSync(directory, { recursive: true, force: true });
    },
  };
}

const diskMegabytes = 64;

/** @returns null where nobody may mount a file system */
function mountSmallDisk(directory: string): (SmallDisk & { unmount(): void }) | null {
  mkdirSync(directory);
  try {
    const options = `size=${diskMegabytes}m`;
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
