import { rmSync } from 'node:fs';
import path from 'node:path';
import { DirectoryLock } from './directory-lock.ts';
import { onFreePort } from './free-port.ts';
import { kafkaStopSignal, prepareBroker } from './kafka-broker.ts';
import type { ProxiedListener } from './kafka-properties.ts';
import type { KafkaSecurity } from './kafka-security.ts';
import { classArchive } from './kafka-class-archive.ts';
import { kafkaJars } from './kafka-jars.ts';
import { cacheDirectory, findJava } from './local-tools.ts';
import type { ServerOptions } from './server-options.ts';
import { endLeftover, type SupervisedServer } from './supervised-server.ts';

export interface KafkaOptions extends ServerOptions {
  /** Of the JVM, in its notation. Default 256m. */
  heap?: string;
  /** A second listener, for clients that come through a proxy. */
  proxied?: ProxiedListener;
  /** Lets only those in who may, by TLS; `proxied` doesn't go with it. Default: everybody, without. */
  security?: KafkaSecurity;
}

export type LocalKafka = SupervisedServer & {
  /** `127.0.0.1:port` */
  readonly brokers: string;
};

/**
 * Starts a Kafka of one node (KRaft: broker and controller in one process) on 127.0.0.1, and waits
 * until it answers. Needs Java 17, and Maven the first time.
 *
 * @throws ServersError
 */
export async function startKafka(options: KafkaOptions): Promise<LocalKafka> {
  const directory = path.resolve(options.directory);
  const { onProgress = () => {}, onEnd = () => {}, heap = '256m' } = options;
  const lock = new DirectoryLock(directory);
  try {
    const java = await findJava();
    const jars = await kafkaJars(cacheDirectory(), onProgress);
    const classes = await classArchive(java, jars, onProgress);
    await endLeftover(directory, kafkaStopSignal);
    if (options.fresh) {
      rmSync(path.join(directory, 'data'), { recursive: true, force: true });
    }

    const start = async (port: number): Promise<LocalKafka> => {
      onProgress('Starting Kafka');
      const server = await prepareBroker({
        java: java.program,
        jars,
        directory,
        port,
        proxied: options.proxied,
        security: options.security,
        jvmArguments: [`-Xms${heap}`, `-Xmx${heap}`, ...classes],
        onEnd,
        onStopped: () => lock.release(),
      });
      await server.start();
      onProgress(`Kafka is ready at 127.0.0.1:${port}`);
      return Object.assign(server, { brokers: `127.0.0.1:${port}` });
    };
    return await onFreePort(directory, options.port, start);
  } catch (error) {
    lock.release();
    throw error;
  }
}
