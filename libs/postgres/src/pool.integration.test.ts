import { once } from 'node:events';
import { type AddressInfo, connect, createServer, type Socket } from 'node:net';
import { createDatabase, dropDatabase } from '@anabranch/servers';
import type {} from '@anabranch/servers/vitest';
import { expect, inject, it, onTestFinished } from 'vitest';
import { errorCode, isUnavailable } from './errors.ts';
import { openPool } from './pool.ts';
import { transaction } from './transaction.ts';

/** A way to the server on which, from some moment on, nothing arrives any more, and nobody is told. */
async function blackHole(url: string): Promise<{ url: string; swallow: () => void }> {
  const target = new URL(url);
  const sockets: Socket[] = [];
  let swallowing = false;
  const server = createServer((client) => {
    const upstream = connect(Number(target.port), target.hostname);
    const pass = (from: Socket, to: Socket): void => {
      sockets.push(from);
      from.on('error', () => undefined);
      from.on('close', () => to.destroy());
      from.on('data', (chunk) => {
        if (!swallowing) {
          to.write(chunk);
        }
      });
    };
    pass(client, upstream);
    pass(upstream, client);
  });
  server.listen(0, '127.0.0.1');
  await once(server, 'listening');
  onTestFinished(() => {
    server.close();
    sockets.forEach((socket) => socket.destroy());
  });
  const through = new URL(url);
  through.hostname = '127.0.0.1';
  through.port = String((server.address() as AddressInfo).port);
  return {
    url: through.href,
    swallow: () => {
      swallowing = true;
    },
  };
}

it.each([
  { when: 'a statement', swallowed: 'statement', code: 'ETIMEDOUT' },
  { when: 'a commit', swallowed: 'commit', code: 'OUTCOME_UNKNOWN' },
])(
  'gives a connection up when $when is never answered, instead of waiting for ever',
  async ({ swallowed, code }) => {
    const database = await createDatabase(inject('databaseUrl'), 'pool');
    onTestFinished(() => dropDatabase(database));
    const { url, swallow } = await blackHole(database);
    const pool = openPool({
      url,
      ssl: false,
      applicationName: 'test',
      size: 1,
      onError: () => undefined,
      silence: 1000,
    });
    onTestFinished(() => pool.end());
    await pool.query('SELECT 1');
    const lost = transaction(pool, async (client) => {
      await client.query('SELECT 1');
      swallow();
      if (swallowed === 'statement') {
        await client.query('SELECT 2');
      }
    });
    const error: unknown = await lost.catch((cause: unknown) => cause);
    expect(errorCode(error)).toBe(code);
    expect(isUnavailable(error) || code === 'OUTCOME_UNKNOWN').toBe(true);
  },
);
