import type { TestProject } from 'vitest/node';
import { type ContainerServers, startContainers } from './containers.ts';
import { leaseServers } from './shared-servers.ts';
import type {} from './vitest.ts';

declare module 'vitest' {
  export interface ProvidedContext {
    /** Where the servers' containers are: at `kafka:19092` and `postgres:5432`. */
    containerNetwork: string;
  }
}

/**
 * Vitest's globalSetup for tests of containers: like ./vitest, with a Kafka and a Postgres in
 * containers, whatever the environment says, and their network for further ones.
 */
export default async function provideContainers(
  project: TestProject,
): Promise<() => Promise<void>> {
  const { servers, release } = await leaseContainers();
  project.provide('kafkaBrokers', servers.brokers);
  project.provide('databaseUrl', servers.databaseUrl);
  project.provide('containerNetwork', servers.network);
  return release;
}

export function leaseContainers(): ReturnType<typeof leaseServers<ContainerServers>> {
  return leaseServers('test-containers', startContainers);
}
