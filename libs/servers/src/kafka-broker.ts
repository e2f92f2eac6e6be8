import { execFile } from 'node:child_process';
import { randomBytes } from 'node:crypto';
import { existsSync, rmSync, writeFileSync } from 'node:fs';
import path from 'node:path';
import { promisify } from 'node:util';
import { ServersError } from './errors.ts';
import { freePort } from './free-port.ts';
import { answersAsKafka } from './kafka-probe.ts';
import { type ProxiedListener, propertiesFile, serverProperties } from './kafka-properties.ts';
import { type KafkaSecurity, keyStore, scramArguments, trustStore } from './kafka-security.ts';
import { type ServerCommand, SupervisedServer } from './supervised-server.ts';

const run = promisify(execFile);

export const kafkaStopSignal = 'SIGTERM';

export interface Broker {
  java: string;
  /** The folder of the jars. */
  jars: string;
  /** Where the broker runs, with its data in `data`. */
  directory: string;
  port: number;
  proxied?: ProxiedListener | undefined;
  security?: KafkaSecurity | undefined;
  /** For the JVM, besides what every broker gets. */
  jvmArguments: string[];
  onEnd?: (error: ServersError) => void;
  onStopped?: () => void;
}

/** Makes the broker's directory ready; what it returns is to be started. */
export async function prepareBroker(broker: Broker): Promise<SupervisedServer> {
  const {
    java,
    jars,
    directory,
    port,
    proxied,
    security,
    jvmArguments,
    onEnd = () => {},
    onStopped,
  } = broker;
  const properties = serverProperties(port, await freePort(), proxied, security);
  writeFileSync(path.join(directory, propertiesFile), properties);
  if (security) {
    const { certificate, ca } = security;
    const store = path.join(directory, keyStore);
    writeFileSync(store, `${certificate.key}\n${certificate.cert}\n`, { mode: 0o600 });
    writeFileSync(path.join(directory, trustStore), ca);
  }
  if (!existsSync(path.join(directory, 'data', 'meta.properties'))) {
    await format(java, jars, directory, security ? scramArguments(security) : []);
  }
  const command: ServerCommand = {
    name: 'Kafka',
    directory,
    program: java,
    arguments: [
      '-XX:+UseSerialGC',
      '-XX:+ExitOnOutOfMemoryError',
      ...jvmArguments,
      ...javaArguments(jars),
      'kafka.Kafka',
      propertiesFile,
    ],
    stopSignal: kafkaStopSignal,
    isReady: () =>
      answersAsKafka('127.0.0.1', port, {
        tls: security && { ca: security.ca, ...security.certificate },
      }),
  };
  return new SupervisedServer(command, onEnd, onStopped);
}

function javaArguments(jars: string): string[] {
  return [
    // Else every JVM writes a file of counters below /tmp, and leaves it there when killed.
    '-XX:-UsePerfData',
    '-Dorg.slf4j.simpleLogger.defaultLogLevel=warn',
    '-Dorg.slf4j.simpleLogger.showDateTime=true',
    '-Dorg.slf4j.simpleLogger.dateTimeFormat=yyyy-MM-dd HH:mm:ss.SSS',
    '-cp',
    path.join(jars, '*'),
  ];
}

/** A data directory gets its identity once; without it the broker refuses to start. */
async function format(
  java: string,
  jars: string,
  directory: string,
  more: readonly string[],
): Promise<void> {
  const data = path.join(directory, 'data');
  // Left by a formatting that was interrupted: meta.properties comes last.
  rmSync(data, { recursive: true, force: true });
  const clusterId = randomBytes(16).toString('base64url');
  try {
    await run(
      java,
      [
        // Less compilation for a program that runs a second: 1.0 s instead of 1.5.
        '-XX:TieredStopAtLevel=1',
        '-XX:+UseSerialGC',
        ...javaArguments(jars),
        'kafka.tools.StorageTool',
        'format',
        `--cluster-id=${clusterId}`,
        `--config=${propertiesFile}`,
        ...more,
      ],
      { cwd: directory },
    );
  } catch (cause) {
    throw new ServersError(
      'START_FAILED',
      `Kafka could not prepare its data directory ${data}: ${String(cause)}`,
      { cause },
    );
  }
}
