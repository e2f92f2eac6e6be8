import {
  chmodSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  rmSync,
  truncateSync,
  writeFileSync,
} from 'node:fs';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { afterEach, beforeEach, expect, it, vi } from 'vitest';
import { kafkaJars } from './kafka-jars.ts';

let directory: string;
let cache: string;

beforeEach(() => {
  directory = mkdtempSync(path.join(tmpdir(), 'anabranch-jars-'));
  cache = path.join(directory, 'cache');
});

afterEach(() => {
  vi.unstubAllEnvs();
  rmSync(directory, { recursive: true });
});

/** A Maven that does this in the folder where the jars belong. */
function stubMaven(script: string): void {
  const file = path.join(directory, 'mvn');
  writeFileSync(
    file,
    `#!/bin/sh\nfor a; do case $a in -DoutputDirectory=*) cd "\${a#*=}";; esac; done\n${script}\n`,
  );
  chmodSync(file, 0o755);
  vi.stubEnv('PATH', `${directory}:/usr/bin:/bin`);
}

const works = 'echo broker > kafka.jar; echo log > slf4j.jar';

it('asks Maven once, and never again while the jars are there', async () => {
  stubMaven(works);
  const told: string[] = [];
  const jars = await kafkaJars(cache, (message) => told.push(message));
  expect(told).toEqual([expect.stringMatching(/^Downloading Apache Kafka 4\.3\.1/)]);
  expect(readFileSync(path.join(jars, 'kafka.jar'), 'utf8')).toBe('broker\n');

  vi.stubEnv('PATH', '');
  await expect(kafkaJars(cache, (message) => told.push(message))).resolves.toBe(jars);
  expect(told).toHaveLength(1);
});

it.each([
  ['is gone', (jar: string) => rmSync(jar)],
  ['is cut short', (jar: string) => truncateSync(jar, 2)],
])('fills the cache anew when a jar %s', async (_, spoil) => {
  stubMaven(works);
  const jars = await kafkaJars(cache, () => {});
  spoil(path.join(jars, 'kafka.jar'));
  await kafkaJars(cache, () => {});
  expect(readFileSync(path.join(jars, 'kafka.jar'), 'utf8')).toBe('broker\n');
  expect(readdirSync(cache)).toHaveLength(1);
});

it('lets several fill the cache at the same time', async () => {
  stubMaven(works);
  const all = await Promise.all(Array.from({ length: 8 }, () => kafkaJars(cache, () => {})));
  expect(new Set(all).size).toBe(1);
  expect(readdirSync(cache)).toEqual([path.basename(all[0]!)]);
  expect(readdirSync(all[0]!).toSorted()).toEqual(['inventory.json', 'kafka.jar', 'slf4j.jar']);
});

it('keeps nothing of a download that failed, and hands on what Maven says', async () => {
  stubMaven(`echo half > kafka.jar; echo '[ERROR] Unknown host repo.maven.apache.org'; exit 1`);
  await expect(kafkaJars(cache, () => {})).rejects.toMatchObject({
    code: 'DOWNLOAD_FAILED',
    message: expect.stringContaining('Unknown host repo.maven.apache.org') as string,
  });
  expect(readdirSync(cache)).toEqual([]);
});

it('says in one line what to install when there is no Maven', async () => {
  vi.stubEnv('PATH', '');
  const error: unknown = await kafkaJars(cache, () => {}).catch((reason: unknown) => reason);
  expect(error).toMatchObject({ code: 'MAVEN_MISSING' });
  expect((error as Error).message).toMatch(/^Anabranch needs Maven.* install .*KAFKA_BROKERS.*$/);
});
