import { spawn } from 'node:child_process';
import type { ChildProcess } from 'node:child_process';
import { mkdtempSync, rmSync, symlinkSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { createInterface } from 'node:readline';
import { fileURLToPath } from 'node:url';
import { build } from 'rolldown';
import { afterAll, afterEach, beforeAll, describe, expect, test, vi } from 'vitest';
import bundling from '../../../rolldown.config.ts';
import { exitCodes } from './exit-codes.ts';

const path = (relative: string) => fileURLToPath(new URL(relative, import.meta.url));
const folder = mkdtempSync(join(tmpdir(), 'run-service-'));
const bundle = join(folder, 'main.mjs');
const children: ChildProcess[] = [];

// A bundle, as in production: Node itself can't run decorators.
beforeAll(async () => {
  // Native packages stay out of the bundle, and are looked for beside it.
  symlinkSync(path('../../../node_modules'), join(folder, 'node_modules'));
  await build({
    ...bundling,
    input: path('./run-service.fixture.ts'),
    tsconfig: path('../../../tsconfig.json'),
    output: { ...bundling.output, file: bundle },
  });
});
afterEach(() => {
  for (const child of children.splice(0)) {
    child.kill('SIGKILL');
  }
});
afterAll(() => {
  rmSync(folder, { recursive: true });
});

type Line = Readonly<Record<string, unknown>>;

interface Run {
  readonly lines: Line[];
  readonly exit: Promise<number | NodeJS.Signals | null>;
  kill(signal: NodeJS.Signals): void;
  /** Waits until a line with this message is there. */
  says(message: string): Promise<Line>;
}

function run(env: Record<string, string>): Run {
  const child = spawn(process.execPath, [bundle], {
    cwd: folder,
    // The cache spares each start the compiling of the bundle.
    env: { NODE_COMPILE_CACHE: folder, PORT: '0', HOST: '127.0.0.1', ...env },
    stdio: ['ignore', 'pipe', 'inherit'],
  });
  children.push(child);
  const lines: Line[] = [];
  createInterface({ input: child.stdout }).on('line', (line) => {
    lines.push(JSON.parse(line) as Line);
  });
  const { promise: exit, resolve } = Promise.withResolvers<number | NodeJS.Signals | null>();
  child.on('close', (code, signal) => {
    resolve(code ?? signal);
  });
  const says = (message: string) =>
    vi.waitUntil(() => lines.find((line) => line['message'] === message), { timeout: 5000 });
  return { lines, exit, kill: (signal) => child.kill(signal), says };
}

const brokers = { KAFKA_BROKERS: 'localhost:1' };

describe('the process of a service', () => {
  test.each(['SIGTERM', 'SIGINT'] as const)(
    'ends its work on %s and exits with 0',
    async (signal) => {
      const service = run(brokers);
      await service.says('started');
      const { port } = await service.says('listening');
      expect((await fetch(`http://127.0.0.1:${String(port)}/health/ready`)).status).toBe(200);
      service.kill(signal);
      expect(await service.exit).toBe(exitCodes.ok);
      expect(service.lines.map(({ message }) => message)).toEqual([
        'starting',
        'listening',
        'started',
        'stopping',
        'work ended',
        'stopped',
      ]);
    },
  );

  test('prints a line for each wrong setting and exits with 64', async () => {
    const service = run({ PORT: 'abc', ROUNDS: '10', KAFKA_PASSWORD: 'hunter2' });
    expect(await service.exit).toBe(exitCodes.config);
    expect(service.lines.map(({ level, message }) => [level, message])).toEqual([
      ['fatal', expect.stringMatching(/^KAFKA_BROKERS is missing: /)],
      ['fatal', 'PORT must be a whole number from 0 to 65535, is "abc"'],
      ['fatal', 'ROUNDS must be a whole number from 1 to 9, is "10"'],
      ['fatal', 'KAFKA_SASL_MECHANISM is missing: KAFKA_PASSWORD is set'],
    ]);
    expect(JSON.stringify(service.lines)).not.toContain('hunter2');
  });

  test('exits by force, with a code that says so, when its work does not end', async () => {
    const service = run({ ...brokers, BEHAVIOUR: 'stuck', SHUTDOWN_SECONDS: '0.2' });
    await service.says('started');
    service.kill('SIGTERM');
    expect(await service.exit).toBe(exitCodes.stuck);
  });

  test('exits at once on a second signal, but not on the same one passed on twice', async () => {
    const service = run({ ...brokers, BEHAVIOUR: 'stuck', SHUTDOWN_SECONDS: '60' });
    await service.says('started');
    service.kill('SIGINT');
    service.kill('SIGTERM');
    await service.says('stopping');
    const again = setInterval(() => {
      service.kill('SIGTERM');
    }, 50);
    expect(await service.exit).toBe(143);
    clearInterval(again);
    const { time: first } = await service.says('stopping');
    const { time: second } = await service.says('a second signal: exiting at once');
    expect(Date.parse(String(second)) - Date.parse(String(first))).toBeGreaterThanOrEqual(290);
  });

  test('can be stopped while it waits for what it needs', async () => {
    const service = run({ ...brokers, BEHAVIOUR: 'waits' });
    await service.says('waiting for Godot');
    service.kill('SIGTERM');
    expect(await service.exit).toBe(exitCodes.ok);
  });

  test.each([
    ['throws', exitCodes.internal, 'out of the blue'],
    ['rejects', exitCodes.internal, 'nobody listens'],
    ['fails', exitCodes.internal, 'cannot start'],
    ['fatal', exitCodes.fenced, 'taken over'],
  ])('that %s exits with %i and says why', async (BEHAVIOUR, code, message) => {
    const service = run({ ...brokers, BEHAVIOUR });
    expect(await service.exit).toBe(code);
    expect(service.lines.find(({ level }) => level === 'fatal')).toMatchObject({
      message,
      exitCode: code,
      error: { stack: expect.stringContaining('at ') as string },
    });
  });
});
