import { mkdtempSync, readdirSync, rmSync, statSync } from 'node:fs';
import { tmpdir } from 'node:os';
import path from 'node:path';
import type { TestProject } from 'vitest/node';
import { type Servers, startServers } from './servers.ts';
import { type Lease, leaseServers } from './shared-servers.ts';

declare module 'vitest' {
  export interface ProvidedContext {
    /** `host:port,host:port` */
    kafkaBrokers: string;
    /** Of a database where tests may create databases: see createDatabase. */
    databaseUrl: string;
  }
}

const prefix = 'anabranch-test-';
const dayMs = 86_400_000;

/**
 * Vitest's globalSetup for tests that need Kafka and Postgres: provides the addresses of those that
 * KAFKA_BROKERS and DATABASE_URL name, or else of fresh local ones that all projects of
 * the run share; with ANABRANCH_TEST_SERVERS=containers, of fresh ones in containers. A test asks for
 * them with `inject('kafkaBrokers')`.
 */
export default async function provideServers(project: TestProject): Promise<() => Promise<void>> {
  const { servers, release } = await lease(process.env['ANABRANCH_TEST_SERVERS'] || 'local');
  project.provide('kafkaBrokers', servers.brokers);
  project.provide('databaseUrl', servers.databaseUrl);
  return release;
}

async function lease(kind: string): Promise<Lease<Servers>> {
  switch (kind) {
    case 'local':
      return leaseServers('test-servers', startLocal);
    case 'containers': {
      // Loading testcontainers takes half a second.
      const { leaseContainers } = await import('./vitest-containers.ts');
      return leaseContainers();
    }
    default:
      throw new RangeError(`ANABRANCH_TEST_SERVERS must be local or containers: not ${kind}`);
  }
}

async function startLocal(): Promise<Servers> {
  removeAbandoned();
  const directory = mkdtempSync(path.join(tmpdir(), prefix));
  const remove = (): void => {
    rmSync(directory, { recursive: true, force: true });
  };
  try {
    const servers = await startServers({
      directory,
      brokers: process.env['KAFKA_BROKERS'],
      databaseUrl: process.env['DATABASE_URL'],
      onProgress: (message) => {
        if (message.startsWith('Downloading')) {
          console.log(message);
        }
      },
    });
    return { ...servers, stop: () => servers.stop().finally(remove) };
  } catch (error) {
    remove();
    throw error;
  }
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
