import { mkdtempSync, readdirSync, rmSync, statSync } from 'node:fs';
import { tmpdir } from 'node:os';
import path from 'node:path';
import type { TestProject } from 'vitest/node';
import { type Servers, startServers } from './servers.ts';

declare module 'vitest' {
  export interface ProvidedContext {
    /** `host:port,host:port` */
    kafkaBrokers: string;
    /** Of a database where tests may create databases: see createDatabase. */
    databaseUrl: string;
  }
}

interface SharedServers {
  users: number;
  servers: Promise<Servers>;
  directory: string;
}

const prefix = 'anabranch-test-';
const dayMs = 86_400_000;

// Vitest loads this module anew for every project that names it, all in one process.
const slot = Symbol.for('anabranch.test-servers');
const shared = globalThis as { [slot]?: SharedServers | undefined };

/**
 * Vitest's globalSetup for tests that need Kafka and Postgres: provides the addresses of those that
 * KAFKA_BROKERS and DATABASE_URL name, or else of fresh local ones that all projects of
 * the run share. A test asks for them with `inject('kafkaBrokers')`.
 */
export default async function provideServers(project: TestProject): Promise<() => Promise<void>> {
  const mine = (shared[slot] ??= start());
  mine.users++;
  const release = async (): Promise<void> => {
    if (--mine.users === 0) {
      shared[slot] = undefined;
      await mine.servers.then((servers) => servers.stop()).catch(() => {});
      rmSync(mine.directory, { recursive: true, force: true });
    }
  };
  try {
    const { brokers, databaseUrl } = await mine.servers;
    project.provide('kafkaBrokers', brokers);
    project.provide('databaseUrl', databaseUrl);
    return release;
  } catch (error) {
    await release();
    throw error;
  }
}

function start(): SharedServers {
  removeAbandoned();
  const directory = mkdtempSync(path.join(tmpdir(), prefix));
  const servers = startServers({
    directory,
    brokers: process.env['KAFKA_BROKERS'],
    databaseUrl: process.env['DATABASE_URL'],
    onProgress: (message) => {
      if (message.startsWith('Downloading')) {
        console.log(message);
      }
    },
  });
  return { users: 0, servers, directory };
}

/** What runs that were killed have left: some 100 MB each. */
function removeAbandoned(): void {
  for (const name of readdirSync(tmpdir())) {
    const directory = path.join(tmpdir(), name);
    try {
      if (name.startsWith(prefix) && Date.now() - statSync(directory).mtimeMs > dayMs) {
        rmSync(directory, { recursive: true, force: true });
      }
    } catch {
      // Another user's, or another run has just removed it.
    }
  }
}
