import { chmodSync, mkdirSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { afterEach, beforeEach, expect, it, vi } from 'vitest';
import { ServersError } from './errors.ts';
import { findJava } from './local-tools.ts';
import { startServers } from './servers.ts';

let directory: string;

beforeEach(() => {
  directory = mkdtempSync(path.join(tmpdir(), 'anabranch-tools-'));
});

afterEach(() => {
  vi.unstubAllEnvs();
  rmSync(directory, { recursive: true });
});

function makeJava(version: string): void {
  const java = path.join(directory, 'bin', 'java');
  mkdirSync(path.dirname(java));
  writeFileSync(java, `#!/bin/sh\necho 'openjdk version "${version}"' >&2\n`);
  chmodSync(java, 0o755);
}

it('says in one line what to install when there is no Java, and leaves nothing running', async () => {
  vi.stubEnv('PATH', '');
  vi.stubEnv('JAVA_HOME', '');
  const error = await startServers({ directory }).catch((reason: unknown) => reason);
  expect(error).toBeInstanceOf(ServersError);
  expect(error).toMatchObject({ code: 'JAVA_MISSING' });
  const { message } = error as ServersError;
  expect(message).toMatch(/Java 17 or newer .* install .*KAFKA_BROKERS/);
  expect(message).not.toContain('\n');
  // Its Postgres had started.
  const again = await startServers({ directory, brokers: '' }).catch((reason: unknown) => reason);
  expect(again).toMatchObject({ code: 'JAVA_MISSING' });
});

it.each(['1.8.0_412', '11.0.2'])('does not take Java %s for a Java 17', async (version) => {
  makeJava(version);
  vi.stubEnv('JAVA_HOME', directory);
  const found = version.startsWith('1.') ? 8 : 11;
  await expect(findJava()).rejects.toThrow(`found Java ${found}`);
});

it.each(['17.0.15', '21', '25-ea'])('takes Java %s of JAVA_HOME', async (version) => {
  makeJava(version);
  vi.stubEnv('JAVA_HOME', directory);
  await expect(findJava()).resolves.toMatchObject({
    program: path.join(directory, 'bin', 'java'),
  });
});
