import { setTimeout as pause } from 'node:timers/promises';
import { PostgreSqlContainer } from '@testcontainers/postgresql';
import { GenericContainer, getContainerRuntimeClient, Network, Wait } from 'testcontainers';
import { ServersError } from './errors.ts';
import { freePort } from './free-port.ts';
import { answersAsKafka } from './kafka-probe.ts';
import { singleNode } from './kafka-properties.ts';
import type { Servers } from './servers.ts';

/** Servers in containers: for this machine at `brokers` and `databaseUrl`. */
export interface ContainerServers extends Servers {
  /** The network of their containers, where they are at `kafka:19092` and `postgres:5432`. */
  readonly network: string;
}

/** The addresses in the containers' own network. */
export const inside = { brokers: 'kafka:19092', database: 'postgres:5432' } as const;

const kafkaImage = 'apache/kafka:4.3.1';
const postgresImage = 'postgres:18';
const startMilliseconds = 120_000;

/** Why no containers can be had here, in one line; undefined: an engine answers. */
export async function engineFault(): Promise<string | undefined> {
  try {
    await getContainerRuntimeClient();
    return undefined;
  } catch {
    return 'no Docker or Podman answers (with DOCKER_HOST, or /var/run/docker.sock)';
  }
}

/**
 * Starts a Kafka and a Postgres in containers, side by side in a network of their own, and waits
 * until they answer. They end with stop(); if this process is killed, testcontainers' reaper ends
 * them, where that isn't turned off.
 *
 * @throws ServersError ENGINE_MISSING, START_FAILED
 */
export async function startContainers(): Promise<ContainerServers> {
  const fault = await engineFault();
  if (fault !== undefined) {
    throw new ServersError(
      'ENGINE_MISSING',
      `Servers in containers were asked for, and ${fault}: start one, or unset ANABRANCH_TEST_SERVERS to use local ones.`,
    );
  }
  const network = await new Network().start();
  const [kafka, postgres] = await Promise.allSettled([
    startKafkaContainer(network.getName()),
    startPostgresContainer(network.getName()),
  ]);
  const stop = async (): Promise<void> => {
    const started = [kafka, postgres].filter((server) => server.status === 'fulfilled');
    await Promise.all(started.map((server) => server.value.stop()));
    await network.stop();
  };
  if (kafka.status === 'rejected' || postgres.status === 'rejected') {
    const failed = [kafka, postgres].find((server) => server.status === 'rejected');
    const reason: unknown = failed?.reason;
    await stop();
    throw new ServersError(
      'START_FAILED',
      `${kafkaImage} and ${postgresImage} could not be started in containers: ${String(reason)}`,
      { cause: reason },
    );
  }
  return {
    brokers: kafka.value.brokers,
    databaseUrl: postgres.value.url,
    network: network.getName(),
    stop,
  };
}

async function startKafkaContainer(
  network: string,
): Promise<{ brokers: string; stop(): Promise<unknown> }> {
  // What the broker tells its clients has to be known before it starts.
  const port = await freePort();
  const { host } = (await getContainerRuntimeClient()).info.containerRuntime;
  const properties = {
    ...singleNode,
    'process.roles': 'broker,controller',
    'node.id': 1,
    'controller.quorum.voters': '1@localhost:9093',
    listeners: 'HOST://:9092,INSIDE://:19092,CONTROLLER://:9093',
    'advertised.listeners': `HOST://${host}:${port},INSIDE://${inside.brokers}`,
    'listener.security.protocol.map': 'HOST:PLAINTEXT,INSIDE:PLAINTEXT,CONTROLLER:PLAINTEXT',
    'inter.broker.listener.name': 'INSIDE',
    'controller.listener.names': 'CONTROLLER',
  };
  const container = await new GenericContainer(kafkaImage)
    .withNetworkMode(network)
    .withNetworkAliases('kafka')
    .withExposedPorts({ container: 9092, host: port })
    .withEnvironment({ ...asEnvironment(properties), KAFKA_HEAP_OPTS: '-Xms256m -Xmx256m' })
    .withWaitStrategy(Wait.forLogMessage(/Kafka Server started/))
    .withStartupTimeout(startMilliseconds)
    .start();
  const deadline = performance.now() + startMilliseconds;
  while (!(await answersAsKafka(host, port))) {
    if (performance.now() > deadline) {
      await container.stop();
      throw new Error(`Kafka has started, but doesn't answer at ${host}:${port}.`);
    }
    await pause(100);
  }
  return { brokers: `${host}:${port}`, stop: () => container.stop() };
}

/** As the image takes its settings: `a.b_c-d` becomes KAFKA_A_B__C___D. */
function asEnvironment(
  properties: Readonly<Record<string, string | number | boolean>>,
): Record<string, string> {
  return Object.fromEntries(
    Object.entries(properties).map(([name, value]) => [
      `KAFKA_${name.replaceAll('_', '__').replaceAll('-', '___').replaceAll('.', '_').toUpperCase()}`,
      String(value),
    ]),
  );
}

async function startPostgresContainer(
  network: string,
): Promise<{ url: string; stop(): Promise<unknown> }> {
  const container = await new PostgreSqlContainer(postgresImage)
    .withNetworkMode(network)
    .withNetworkAliases('postgres')
    .withUsername('postgres')
    .withDatabase('anabranch')
    // Docker's 64 MB are too few for the oracle's parallel sorts.
    .withSharedMemorySize(256 * 1024 * 1024)
    .withCommand(['postgres', '-c', 'timezone=UTC', '-c', 'max_wal_size=2GB'])
    .withStartupTimeout(startMilliseconds)
    .start();
  return { url: container.getConnectionUri(), stop: () => container.stop() };
}
