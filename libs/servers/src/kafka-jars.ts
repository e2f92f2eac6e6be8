import { execFile } from 'node:child_process';
import { createHash, randomBytes } from 'node:crypto';
import {
  mkdirSync,
  readdirSync,
  readFileSync,
  renameSync,
  rmSync,
  statSync,
  writeFileSync,
} from 'node:fs';
import path from 'node:path';
import { fileURLToPath } from 'node:url';
import { promisify } from 'node:util';
import { ServersError } from './errors.ts';

const run = promisify(execFile);
const kafkaPom = fileURLToPath(new URL('../kafka/pom.xml', import.meta.url));

/** Name and size in bytes of each jar: what the folder must hold to be whole. */
type Inventory = Record<string, number>;

/** Jars that Maven brings. */
export interface MavenJars {
  /** Path of the pom that names them. */
  readonly pom: string;
  /** What they are, with its version. */
  readonly title: string;
  /** Name of their folder in the cache, with the version; a hash of the pom follows it. */
  readonly folder: string;
  readonly megabytes: number;
  /** What to do where there is neither Maven nor a network: completes "…, or …". */
  readonly otherwise: string;
}

/**
 * The folder with the broker's jars.
 *
 * @throws ServersError MAVEN_MISSING, DOWNLOAD_FAILED
 */
export function kafkaJars(
  cacheDirectory: string,
  onProgress: (message: string) => void,
): Promise<string> {
  const version = /kafka_2\.13<\/artifactId>\s*<version>([^<]+)/.exec(
    readFileSync(kafkaPom, 'utf8'),
  )?.[1];
  const kafka = {
    pom: kafkaPom,
    title: `Apache Kafka ${version ?? ''}`,
    folder: `kafka-${version ?? ''}`,
    megabytes: 44,
    otherwise: 'set KAFKA_BROKERS to a Kafka of yours',
  };
  return mavenJars(kafka, cacheDirectory, onProgress);
}

/**
 * A folder with the jars that a pom names. Maven fills it the first time (Kafka's: 6 to 30 s), and
 * isn't needed from then on. Any number of processes may call this at once: each fills a folder of its
 * own, and the first to finish gives its folder the final name.
 *
 * @throws ServersError MAVEN_MISSING, DOWNLOAD_FAILED
 */
export async function mavenJars(
  wanted: MavenJars,
  cacheDirectory: string,
  onProgress: (message: string) => void,
): Promise<string> {
  const text = readFileSync(wanted.pom, 'utf8');
  // A checkout with another pom must not get these.
  const hash = createHash('sha256').update(text).digest('hex').slice(0, 8);
  const jars = path.join(cacheDirectory, `${wanted.folder}-${hash}`);
  if (isWhole(jars)) {
    return jars;
  }

  onProgress(`Downloading ${wanted.title} (${wanted.megabytes} MB, this once)`);
  const unique = `${process.pid}-${randomBytes(4).toString('hex')}`;
  const partial = `${jars}.${unique}.partial`;
  mkdirSync(partial, { recursive: true });
  try {
    await copyDependencies(wanted, partial);
    const inventory: Inventory = {};
    for (const jar of readdirSync(partial)) {
      inventory[jar] = statSync(path.join(partial, jar)).size;
    }
    writeFileSync(path.join(partial, 'inventory.json'), JSON.stringify(inventory, null, 2));
    moveInto(partial, jars, unique);
  } finally {
    rmSync(partial, { recursive: true, force: true });
  }
  return jars;
}

async function copyDependencies(wanted: MavenJars, directory: string): Promise<void> {
  try {
    await run('mvn', [
      '--quiet',
      '--batch-mode',
      `--file=${wanted.pom}`,
      'dependency:copy-dependencies',
      `-DoutputDirectory=${directory}`,
      '-DincludeScope=runtime',
    ]);
  } catch (cause) {
    const { code, stdout } = cause as { code?: unknown; stdout?: string };
    if (code === 'ENOENT') {
      throw new ServersError(
        'MAVEN_MISSING',
        `Anabranch needs Maven, this once, to download ${wanted.title}: install it (Debian: apt-get install maven), or ${wanted.otherwise}.`,
        { cause },
      );
    }
    const firstError = /^\[ERROR\] (.*)$/m.exec(stdout ?? '')?.[1] ?? String(cause);
    throw new ServersError(
      'DOWNLOAD_FAILED',
      `Maven could not download ${wanted.title}: check the network (and a proxy in ~/.m2/settings.xml), or ${wanted.otherwise}. Maven says: ${firstError}`,
      { cause },
    );
  }
}

/** Gives the folder its final name, unless another process just did that with its own. */
function moveInto(partial: string, jars: string, unique: string): void {
  const broken = `${jars}.${unique}.broken`;
  while (!isWhole(jars)) {
    try {
      renameSync(jars, broken);
      rmSync(broken, { recursive: true, force: true });
    } catch (error) {
      // There is none, as usual.
      if ((error as NodeJS.ErrnoException).code !== 'ENOENT') {
        throw error;
      }
    }
    try {
      renameSync(partial, jars);
    } catch (error) {
      // Another's is there now: look at that one.
      if (!['EEXIST', 'ENOTEMPTY'].includes((error as NodeJS.ErrnoException).code ?? '')) {
        throw error;
      }
    }
  }
}

/** Cleaners of caches delete single files, and a full disk shortens them. */
function isWhole(jars: string): boolean {
  try {
    const inventory = JSON.parse(
      readFileSync(path.join(jars, 'inventory.json'), 'utf8'),
    ) as Inventory;
    return Object.entries(inventory).every(
      ([jar, size]) => statSync(path.join(jars, jar)).size === size,
    );
  } catch {
    return false;
  }
}
