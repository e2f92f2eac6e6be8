import { once } from 'node:events';
import { readFileSync, writeFileSync } from 'node:fs';
import { createServer } from 'node:net';
import path from 'node:path';
import { ServersError } from './errors.ts';

const attempts = 3;

/**
 * Starts a server on a port of 127.0.0.1: the given one; or that of the last start in this
 * directory, so that what users noted down stays valid; or else a random one, and another one
 * should somebody take it in the moment before the server does.
 *
 * @throws ServersError PORT_TAKEN if the given one is
 */
export async function onFreePort<Server>(
  directory: string,
  given: number | undefined,
  start: (port: number) => Promise<Server>,
): Promise<Server> {
  if (given !== undefined) {
    if (await isFree(given)) {
      return start(given);
    }
    throw new ServersError(
      'PORT_TAKEN',
      `Port ${given} of 127.0.0.1 is taken: stop what listens there, or choose another one.`,
    );
  }
  const note = path.join(directory, 'port');
  for (let attempt = 1; ; attempt++) {
    const port = await freePort(attempt === 1 ? lastPort(note) : undefined);
    try {
      const server = await start(port);
      writeFileSync(note, String(port));
      return server;
    } catch (error) {
      const taken = error instanceof Error && error.message.includes('Address already in use');
      if (!taken || attempt === attempts) {
        throw error;
      }
    }
  }
}

/**
 * The preferred port if it is free, else a random one that is.
 *
 * Random ones lie below the range from which systems take the ports of outgoing connections
 * (32768 and up on Linux, 49152 elsewhere). Inside that range a client that keeps trying a server
 * that is being restarted can be given the server's own port, connect to itself and so hold it.
 */
export async function freePort(preferred?: number): Promise<number> {
  if (preferred !== undefined && (await isFree(preferred))) {
    return preferred;
  }
  for (;;) {
    const port = 20_000 + Math.floor(Math.random() * 12_000);
    if (await isFree(port)) {
      return port;
    }
  }
}

function lastPort(note: string): number | undefined {
  try {
    const port = Number(readFileSync(note, 'utf8'));
    return Number.isInteger(port) && port > 1023 && port < 65_536 ? port : undefined;
  } catch {
    return undefined;
  }
}

async function isFree(port: number): Promise<boolean> {
  const server = createServer();
  try {
    server.listen(port, '127.0.0.1');
    await once(server, 'listening');
    return true;
  } catch {
    return false;
  } finally {
    server.close();
  }
}
