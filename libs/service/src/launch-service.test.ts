import { once } from 'node:events';
import { request } from 'node:http';
import { connect, type Socket } from 'node:net';
import { afterEach, beforeEach, describe, expect, test, vi } from 'vitest';
import { ConfigError, ServiceError } from './errors.ts';
import { exitCodes } from './exit-codes.ts';
import { launchService } from './launch-service.ts';
import type { LaunchedService, ServiceContext } from './launch-service.ts';
import type { RunningService } from './lifecycle.ts';
import { integer, settings } from './settings.ts';
import type { CommonConfig } from './settings.ts';

const config = settings({ ROUNDS: integer(1, 9).default(3) });
const env = { KAFKA_BROKERS: 'localhost:1', PORT: '0', HOST: '127.0.0.1', INSTANCE: 'a' };
const lines: Record<string, unknown>[] = [];
const launched: LaunchedService[] = [];

beforeEach(() => {
  lines.length = 0;
  vi.spyOn(process.stdout, 'write').mockImplementation((line) => {
    lines.push(JSON.parse(String(line)) as Record<string, unknown>);
    return true;
  });
});
afterEach(async () => {
  for (const service of launched.splice(0)) {
    service.stop('end of test');
    await service.exit;
  }
  vi.restoreAllMocks();
});

type Start = (
  context: ServiceContext<CommonConfig & { ROUNDS: number }>,
) => Promise<RunningService>;

async function launch(start: Start, own: Record<string, string> = {}): Promise<LaunchedService> {
  const options = { name: 'ingest', version: '1.2.3', config, start };
  const service = await launchService({ ...options, env: { ...env, ...own } });
  launched.push(service);
  return service;
}

const idle: RunningService = {
  ready: () => ({ ok: true, details: { offset: 7n } }),
  stop: () => Promise.resolve(),
};

interface Answer {
  status: number;
  type: string | undefined;
  body: string;
}

/** Not `fetch`, which keeps its connections. */
function ask(port: number, path: string, method = 'GET', body = ''): Promise<Answer> {
  const { promise, resolve, reject } = Promise.withResolvers<Answer>();
  const headers =
    body === ''
      ? {}
      : { 'content-type': 'application/json', 'content-length': Buffer.byteLength(body) };
  const sent = request(
    { host: '127.0.0.1', port, path, method, headers, agent: false },
    (response) => {
      let text = '';
      response.setEncoding('utf8').on('data', (part: string) => {
        text += part;
      });
      response.on('end', () => {
        const type = response.headers['content-type'];
        resolve({ status: response.statusCode ?? 0, type, body: text });
      });
    },
  );
  sent.on('error', reject).end(body);
  return promise;
}

async function askJson(port: number, path: string): Promise<[number, unknown]> {
  const { status, body } = await ask(port, path);
  return [status, JSON.parse(body)];
}

describe('a launched service', () => {
  test('answers live before it has started, and ready once it has', async () => {
    const { promise, resolve } = Promise.withResolvers<RunningService>();
    const { port } = await launch(() => promise);
    expect(await askJson(port, '/health/live')).toEqual([
      200,
      { ok: true, state: 'starting', details: {} },
    ]);
    expect((await askJson(port, '/health/ready'))[0]).toBe(503);
    resolve(idle);
    await vi.waitUntil(async () => (await ask(port, '/health/ready')).status === 200);
    expect(await askJson(port, '/health/ready')).toEqual([
      200,
      { ok: true, state: 'running', details: { offset: 7 } },
    ]);
  });

  test('says on which port it listens, and with which settings it starts', async () => {
    const { port } = await launch(() => Promise.resolve(idle), { KAFKA_USERNAME: '' });
    expect(port).toBeGreaterThan(0);
    expect(lines).toContainEqual(expect.objectContaining({ message: 'listening', port }));
    expect(lines[0]).toMatchObject({
      level: 'info',
      service: 'ingest',
      instance: 'a',
      message: 'starting',
      version: '1.2.3',
      config: { KAFKA_BROKERS: ['localhost:1'], ROUNDS: 3 },
    });
    // At info level, Nest's own talk stays out.
    expect(lines.every(({ message }) => !String(message).includes('Nest'))).toBe(true);
  });

  test('tells in ready what it waits for', async () => {
    const { port } = await launch(async ({ waitFor }) => {
      await waitFor('Kafka', () => Promise.reject(new Error('refused')));
      return idle;
    });
    await vi.waitUntil(async () => (await ask(port, '/health/ready')).body.includes('refused'));
    expect(await askJson(port, '/health/ready')).toEqual([
      503,
      { ok: false, state: 'starting', details: { waitingFor: { Kafka: 'refused' } } },
    ]);
    launched[0]?.stop('test');
    expect(await launched[0]?.exit).toBe(exitCodes.ok);
  });

  test('shows its metrics as Prometheus reads them', async () => {
    const { port } = await launch(({ metrics }) => {
      metrics.transactionsTotal.inc({ outcome: 'committed' }, 4);
      return Promise.resolve(idle);
    });
    const { status, type, body } = await ask(port, '/metrics');
    expect(status).toBe(200);
    expect(type).toBe('text/plain; version=0.0.4; charset=utf-8');
    expect(body).toContain('anabranch_transactions_total{outcome="committed"} 4\n');
  });

  test.each([
    ['GET', '/'],
    ['GET', '/health'],
    ['GET', '/health/live/x'],
    ['GET', '/%00'],
    ['GET', '/metrics%'],
    ['POST', '/health/live'],
    ['PUT', '/metrics'],
    ['POST', '/nowhere'],
    ['DELETE', '/'],
  ])('answers %s %s with an empty 404', async (method, path) => {
    const { port } = await launch(() => Promise.resolve(idle));
    const { status, body } = await ask(port, path, method, method === 'GET' ? '' : '{"a":1');
    expect({ status, body }).toEqual({ status: 404, body: '' });
  });

  test('reads no body, however long', async () => {
    const { port } = await launch(() => Promise.resolve(idle));
    const answer = ask(port, '/health/live', 'POST', 'x'.repeat(2_000_000)).then(
      ({ status }) => status,
      (error: NodeJS.ErrnoException) => error.code,
    );
    // The connection may also be closed under the body.
    expect([404, 'EPIPE', 'ECONNRESET']).toContain(await answer);
    expect((await ask(port, '/health/live')).status).toBe(200);
  });

  test('answers HEAD as GET, without the page', async () => {
    const { port } = await launch(() => Promise.resolve(idle));
    for (const path of ['/health/live', '/metrics']) {
      expect(await ask(port, path, 'HEAD')).toMatchObject({ status: 200, body: '' });
    }
    expect(await ask(port, '/nowhere', 'HEAD')).toMatchObject({ status: 404, body: '' });
  });

  test('refuses long headers, and waits for no slow client', async () => {
    const { port } = await launch(() => Promise.resolve(idle));
    const answerTo = async (sent: string): Promise<string> => {
      const socket = connect({ port, host: '127.0.0.1' });
      let answer = '';
      socket.setEncoding('utf8').on('data', (part: string) => {
        answer += part;
      });
      socket.on('error', () => undefined);
      socket.write(sent);
      await once(socket, 'close');
      return answer;
    };
    const head = 'GET /health/live HTTP/1.1\r\nhost: a\r\n';
    const [long, partly, silent] = await Promise.all([
      answerTo(`${head}x: ${'y'.repeat(9_000)}\r\n\r\n`),
      // These two never end; without a limit this test wouldn't either.
      answerTo(head),
      answerTo(''),
    ]);
    expect(long).toContain('431');
    expect(partly).toContain('408');
    expect(silent).not.toContain('200');
  }, 60_000);

  test('has at most 100 connections', async () => {
    const { port } = await launch(() => Promise.resolve(idle));
    const sockets: Socket[] = [];
    for (let opened = 0; opened < 100; opened++) {
      const socket = connect({ port, host: '127.0.0.1' });
      sockets.push(socket);
      await once(socket, 'connect');
    }
    await expect(ask(port, '/health/live')).rejects.toThrow(/hang up|ECONNRESET/);
    for (const socket of sockets) {
      socket.destroy();
    }
    await vi.waitUntil(() =>
      ask(port, '/health/live').then(
        ({ status }) => status === 200,
        () => false,
      ),
    );
  });

  test('that fails says so in live until it exits with the code', async () => {
    const { promise: stopped, resolve: letStop } = Promise.withResolvers<void>();
    const contexts: Parameters<Start>[0][] = [];
    const { port, exit } = await launch((context) => {
      contexts.push(context);
      return Promise.resolve({ ...idle, stop: () => stopped });
    });
    await vi.waitUntil(async () => (await ask(port, '/health/ready')).status === 200);
    contexts[0]?.fatal(new ServiceError('FENCED', 'taken over'));
    expect(await askJson(port, '/health/live')).toEqual([
      503,
      { ok: false, state: 'stopping', details: { failure: 'taken over' } },
    ]);
    letStop();
    expect(await exit).toBe(exitCodes.fenced);
    await expect(ask(port, '/health/live')).rejects.toThrow('ECONNREFUSED');
  });

  test('refuses a port that is taken, with what to do', async () => {
    const { port } = await launch(() => Promise.resolve(idle));
    const second = launch(() => Promise.resolve(idle), { PORT: String(port) });
    await expect(second).rejects.toMatchObject({
      code: 'CONFIG',
      exitCode: exitCodes.config,
      message: expect.stringMatching(/^PORT \d+ .* EADDRINUSE.*Set PORT to a free one/) as string,
    });
  });

  test('refuses wrong settings before anything starts', async () => {
    const start = vi.fn<Start>(() => Promise.resolve(idle));
    await expect(launch(start, { ROUNDS: '0' })).rejects.toThrow(ConfigError);
    expect(start).not.toHaveBeenCalled();
    expect(lines).toEqual([]);
  });
});
