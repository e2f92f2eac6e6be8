import { execFile } from 'node:child_process';
import { homedir } from 'node:os';
import path from 'node:path';
import { promisify } from 'node:util';
import { ServersError } from './errors.ts';

const run = promisify(execFile);
const oldestJava = 17;

export interface Java {
  /** What to run. */
  program: string;
  /** What it says of itself: another text is another Java. */
  build: string;
}

/**
 * The Java of JAVA_HOME if that is set, else the one on the PATH.
 *
 * @throws ServersError JAVA_MISSING
 */
export async function findJava(): Promise<Java> {
  const home = process.env['JAVA_HOME'];
  const program = home ? path.resolve(home, 'bin', 'java') : 'java';
  let found: string;
  try {
    // `-version` writes to stderr: openjdk version "17.0.15" 2025-04-15. Java 8 calls itself 1.8.
    const { stderr } = await run(program, ['-version']);
    const version = / version "(?:1\.)?(\d+)/.exec(stderr)?.[1];
    if (version === undefined || Number(version) >= oldestJava) {
      return { program, build: `${program}\n${stderr}` };
    }
    found = `it found Java ${version}`;
  } catch {
    found = home ? `JAVA_HOME=${home} has none` : 'it found none';
  }
  throw new ServersError(
    'JAVA_MISSING',
    `Anabranch needs Java ${oldestJava} or newer to run its local Kafka, and ${found}: install it (Debian: apt-get install openjdk-17-jre-headless), or set KAFKA_BROKERS to a Kafka of yours.`,
  );
}

/** Where downloads are kept for all checkouts of this user. */
export function cacheDirectory(): string {
  return path.join(process.env['XDG_CACHE_HOME'] || path.join(homedir(), '.cache'), 'anabranch');
}
