/** What all projects of a Vitest run share; the last one to leave stops it. */
interface Shared<T> {
  users: number;
  readonly servers: Promise<T>;
}

export interface Lease<T> {
  readonly servers: T;
  readonly release: () => Promise<void>;
}

/**
 * Gives the servers of that name: the first one who asks starts them, the last one who releases them
 * stops them. Vitest loads a globalSetup anew for every project that names it, all in one process: hence
 * a place that doesn't belong to a module.
 */
export async function leaseServers<T extends { stop(): Promise<void> }>(
  name: string,
  start: () => Promise<T>,
): Promise<Lease<T>> {
  const slot = Symbol.for(`anabranch.${name}`);
  const places = globalThis as { [place: symbol]: Shared<T> | undefined };
  const mine = (places[slot] ??= { users: 0, servers: start() });
  mine.users++;
  const release = async (): Promise<void> => {
    if (--mine.users === 0) {
      places[slot] = undefined;
      await mine.servers.then((servers) => servers.stop()).catch(() => {});
    }
  };
  try {
    return { servers: await mine.servers, release };
  } catch (error) {
    await release();
    throw error;
  }
}
