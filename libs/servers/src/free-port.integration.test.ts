import { mkdtempSync, rmSync } from 'node:fs';
import { createServer, type Server } from 'node:net';
import { once } from 'node:events';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { afterEach, beforeEach, expect, it, vi } from 'vitest';
import { freePort, onFreePort } from './free-port.ts';

let directory: string;
let listening: Server[] = [];

beforeEach(() => {
  directory = mkdtempSync(path.join(tmpdir(), 'anabranch-ports-'));
});

afterEach(() => {
  rmSync(directory, { recursive: true });
  listening.forEach((server) => server.close());
  listening = [];
});

async function occupy(port: number): Promise<void> {
  const server = createServer().listen(port, '127.0.0.1');
  listening.push(server);
  await once(server, 'listening');
}

const startOn = (port: number): Promise<number> => Promise.resolve(port);

it('takes the port of the last start again', async () => {
  const port = await onFreePort(directory, undefined, startOn);
  expect(await onFreePort(directory, undefined, startOn)).toBe(port);
});

it('takes another port when that of the last start is taken', async () => {
  const port = await onFreePort(directory, undefined, startOn);
  await occupy(port);
  expect(await onFreePort(directory, undefined, startOn)).not.toBe(port);
});

it('refuses a given port that is taken', async () => {
  const port = await freePort();
  await occupy(port);
  await expect(onFreePort(directory, port, startOn)).rejects.toMatchObject({ code: 'PORT_TAKEN' });
});

it('tries other ports when somebody is faster, and passes on any other failure', async () => {
  const tried = new Set<number>();
  const port = await onFreePort(directory, undefined, (candidate) => {
    tried.add(candidate);
    return tried.size < 3
      ? Promise.reject(new Error('bind: Address already in use'))
      : Promise.resolve(candidate);
  });
  expect(tried.size).toBe(3);
  expect([...tried].at(-1)).toBe(port);

  const start = vi.fn<typeof startOn>().mockRejectedValue(new Error('disk full'));
  await expect(onFreePort(directory, undefined, start)).rejects.toThrow('disk full');
  expect(start).toHaveBeenCalledOnce();
});
