import { execFile } from 'node:child_process';
import { mkdirSync, writeFileSync } from 'node:fs';
import path from 'node:path';
import { fileURLToPath } from 'node:url';
import { promisify } from 'node:util';
import { cacheDirectory, findJava, mavenJars } from '@anabranch/servers';
import type { PeerCommand, PeerOptions } from '../peer.ts';
import { flinkJob, flinkSettings } from './job.ts';

const run = promisify(execFile);
const here = (name: string): string => fileURLToPath(new URL(name, import.meta.url));

/** A Flink that is ready to be started. */
export interface Flink {
  readonly java: string;
  readonly classPath: string;
}

/**
 * Resolves Flink with Maven, the first time, and compiles the program that runs its job.
 * @param directory for the compiled class
 * @throws ServersError JAVA_MISSING, MAVEN_MISSING, DOWNLOAD_FAILED
 */
export async function prepareFlink(
  directory: string,
  onProgress: (message: string) => void,
): Promise<Flink> {
  const { program: java } = await findJava();
  const jars = await mavenJars(
    {
      pom: here('pom.xml'),
      title: 'Apache Flink 2.2.1',
      folder: 'flink-2.2.1',
      megabytes: 143,
      otherwise: 'leave flink out of --peers',
    },
    cacheDirectory(),
    onProgress,
  );
  const classes = path.join(directory, 'flink-classes');
  mkdirSync(classes, { recursive: true });
  const compiler = java === 'java' ? 'javac' : path.join(path.dirname(java), 'javac');
  await run(compiler, ['-cp', path.join(jars, '*'), '-d', classes, here('FlinkPeer.java')]).catch(
    (cause: unknown) => {
      throw new Error(
        `The peer flink could not be compiled: it needs the javac of a JDK (Debian: apt-get install openjdk-17-jdk-headless). ${(cause as Error).message}`,
        { cause },
      );
    },
  );
  return { java, classPath: `${classes}:${path.join(jars, '*')}` };
}

export function flinkCommand(
  flink: Flink,
  brokers: string,
  databaseUrl: string,
  options: PeerOptions,
): PeerCommand {
  const { directory, flush } = options;
  mkdirSync(directory, { recursive: true });
  const settings = path.join(directory, 'settings.properties');
  const job = path.join(directory, 'job.sql');
  const lines = Object.entries(flinkSettings(directory, flush)).map(
    ([name, value]) => `${name}=${value}\n`,
  );
  writeFileSync(settings, lines.join(''));
  writeFileSync(job, flinkJob(brokers, databaseUrl, options));
  return {
    program: flink.java,
    arguments: [
      '-Xms1536m',
      '-Xmx1536m',
      '-XX:+UseParallelGC',
      '-Dorg.slf4j.simpleLogger.defaultLogLevel=warn',
      ...['java.lang', 'java.util', 'java.net', 'java.time', 'java.util.concurrent'].map(
        (name) => `--add-opens=java.base/${name}=ALL-UNNAMED`,
      ),
      '-cp',
      flink.classPath,
      'FlinkPeer',
      settings,
      job,
    ],
  };
}
