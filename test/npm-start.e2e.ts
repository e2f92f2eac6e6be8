import { spawn } from 'node:child_process';
import { once } from 'node:events';
import {
  cpSync,
  mkdirSync,
  mkdtempSync,
  readFileSync,
  rmSync,
  symlinkSync,
  writeFileSync,
} from 'node:fs';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { text } from 'node:stream/consumers';
import { fileURLToPath } from 'node:url';
import { createDatabase, dropDatabase } from '@anabranch/servers';
import type {} from '@anabranch/servers/vitest';
import { expect, inject, onTestFinished, test } from 'vitest';

const root = fileURLToPath(new URL('../', import.meta.url));

/**
 * A copy of what `npm start` runs, so that its state stays out of the work tree, on a topic of its
 * own; the services' bundles are built already.
 */
function scratchCopy(): string {
  const scratch = mkdtempSync(path.join(tmpdir(), 'anabranch-start-'));
  cpSync(path.join(root, 'tools'), path.join(scratch, 'tools'), { recursive: true });
  cpSync(path.join(root, 'examples'), path.join(scratch, 'examples'), { recursive: true });
  cpSync(path.join(root, 'package.json'), path.join(scratch, 'package.json'));
  symlinkSync(path.join(root, 'node_modules'), path.join(scratch, 'node_modules'));
  writeFileSync(
    path.join(scratch, 'tools/build-services.ts'),
    'export function buildServices(): void {}\n',
  );
  const definition = path.join(scratch, 'examples/quick-start/anabranch.yaml');
  const topic = `e2e-${path.basename(scratch).toLowerCase()}`;
  writeFileSync(
    definition,
    readFileSync(definition, 'utf8').replace('topic: quick-start-orders', `topic: ${topic}`),
  );
  mkdirSync(path.join(scratch, '.anabranch'));
  return scratch;
}

test('npm start -- --once shows the tables and the balance, and ends with 0', async () => {
  const scratch = scratchCopy();
  const databaseUrl = await createDatabase(inject('databaseUrl'), 'e2e_start');
  const child = spawn(process.execPath, ['tools/start.ts', '--once'], {
    cwd: scratch,
    env: {
      ...process.env,
      KAFKA_BROKERS: inject('kafkaBrokers'),
      DATABASE_URL: databaseUrl,
      NO_COLOR: '1',
    },
    stdio: ['ignore', 'pipe', 'pipe'],
  });
  onTestFinished(async ({ task }) => {
    child.kill('SIGKILL');
    if (task.result?.state === 'fail') {
      console.error(await output);
    }
    rmSync(scratch, { recursive: true, force: true });
    await dropDatabase(databaseUrl);
  }, 60_000);
  const output = Promise.all([text(child.stdout), text(child.stderr)]).then((both) =>
    both.join('\n'),
  );
  const [code] = (await once(child, 'exit')) as [number | null];
  const shown = await output;
  expect(code).toBe(0);
  for (const part of [
    'clean_rows',
    'per_minute',
    'provisional',
    'final',
    'corrected',
    'anabranch.split',
  ]) {
    expect(shown).toContain(part);
  }
  expect(shown).toMatch(/every record is accounted for exactly once/);
});
