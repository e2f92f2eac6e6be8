import path from 'node:path';
import { ServersError } from './errors.ts';
import { startKafka } from './kafka.ts';
import { answersAsKafka } from './kafka-probe.ts';
import { startPostgres } from './postgres.ts';
import { postgresFault } from './postgres-probe.ts';
import type { ServerOptions } from './server-options.ts';

export interface ServersOptions extends Omit<ServerOptions, 'port'> {
  /** A Kafka of the user's, `host:port,host:port`, to use instead of starting one. */
  brokers?: string | undefined;
  /** A Postgres of the user's to use instead of starting one. */
  databaseUrl?: string | undefined;
}

export interface Servers {
  /** `host:port,host:port` */
  readonly brokers: string;
  readonly databaseUrl: string;
  /** Stops what was started; a server of the user's is left alone. */
  stop(): Promise<void>;
}

/**
 * Sees to it that there are a Kafka and a Postgres: starts them in the directory, side by side, or
 * checks that those that were given answer. They end with this process, whichever way it ends;
 * stop() waits for it.
 *
 * @throws ServersError
 */
export async function startServers(options: ServersOptions): Promise<Servers> {
  const { brokers, databaseUrl, directory, ...rest } = options;
  const [kafka, postgres] = await Promise.allSettled([
    brokers
      ? checkBrokers(brokers)
      : startKafka({ ...rest, directory: path.join(directory, 'kafka') }),
    databaseUrl
      ? checkDatabase(databaseUrl)
      : startPostgres({ ...rest, directory: path.join(directory, 'postgres') }),
  ]);
  const stop = async (): Promise<void> => {
    const started = [kafka, postgres].filter((server) => server.status === 'fulfilled');
    await Promise.all(started.map((server) => server.value.stop()));
  };
  if (kafka.status === 'rejected' || postgres.status === 'rejected') {
    await stop();
    throw [kafka, postgres].find((server) => server.status === 'rejected')?.reason;
  }
  return { brokers: kafka.value.brokers, databaseUrl: postgres.value.url, stop };
}

const nothingToStop = { stop: () => Promise.resolve() };

async function checkBrokers(brokers: string): Promise<{ brokers: string; stop(): Promise<void> }> {
  const answers = await Promise.all(
    brokers.split(',').map((address) => {
      const { hostname, port } = parseAddress(address.trim(), brokers);
      return answersAsKafka(hostname, port);
    }),
  );
  if (!answers.includes(true)) {
    throw new ServersError(
      'UNREACHABLE',
      `No Kafka answers at ${brokers}, which KAFKA_BROKERS names: start it, or unset KAFKA_BROKERS to use a local one.`,
    );
  }
  return { brokers, ...nothingToStop };
}

function parseAddress(address: string, brokers: string): { hostname: string; port: number } {
  const [, hostname, port] = /^\[?([^\s/]+?)\]?:(\d{1,5})$/.exec(address) ?? [];
  if (hostname === undefined || Number(port) > 65_535) {
    throw new ServersError(
      'UNREACHABLE',
      `KAFKA_BROKERS must be host:port, or several with commas between them: not ${brokers}`,
    );
  }
  return { hostname, port: Number(port) };
}

async function checkDatabase(url: string): Promise<{ url: string; stop(): Promise<void> }> {
  const fault = await postgresFault(url);
  if (fault !== undefined) {
    // Without user and password.
    const shown = url.replace(/\/\/.*@/, '//');
    throw new ServersError(
      'UNREACHABLE',
      `The Postgres at ${shown}, which DATABASE_URL names, can't be used: ${fault}. Mend that, or unset DATABASE_URL to use a local one.`,
    );
  }
  return { url, ...nothingToStop };
}
