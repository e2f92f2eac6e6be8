import { type KafkaSecurity, securityProperties } from './kafka-security.ts';

/**
 * In the server's directory, which is where it runs: the paths it gets are relative, as
 * log.dirs is a list with commas, and a properties file is Latin-1, and users' folders are neither.
 */
export const propertiesFile = 'server.properties';

/** Of a single node for tests and first steps, wherever it runs. */
export const singleNode: Readonly<Record<string, string | number | boolean>> = {
  // A typo in a topic's name should be an error, not a topic.
  'auto.create.topics.enable': false,
  // Groups start at once instead of waiting 3 s for more members.
  'group.initial.rebalance.delay.ms': 0,

  // After a SIGKILL the broker may not register again before its former session is over: with the
  // default of 9 s a restart takes 12 s.
  'broker.session.timeout.ms': 4000,
  'broker.heartbeat.interval.ms': 1000,

  'offsets.topic.replication.factor': 1,
  'offsets.topic.num.partitions': 4,
  'transaction.state.log.replication.factor': 1,
  'transaction.state.log.min.isr': 1,
  'transaction.state.log.num.partitions': 4,
  'share.coordinator.state.topic.replication.factor': 1,
  'share.coordinator.state.topic.min.isr': 1,
  'share.coordinator.state.topic.num.partitions': 4,

  // Two cores and 256 MB of heap, of which the cleaner alone would take half (128 MB).
  'log.cleaner.dedupe.buffer.size': 8_388_608,
  'num.network.threads': 2,
  'num.io.threads': 4,
  'background.threads': 2,
};

/** A listener on `port` of 127.0.0.1 that tells its clients to come to `advertised`. */
export interface ProxiedListener {
  readonly port: number;
  readonly advertised: number;
}

/** server.properties of a single node whose data are in `data` beside it. */
export function serverProperties(
  port: number,
  controllerPort: number,
  proxied?: ProxiedListener,
  security?: KafkaSecurity,
): string {
  const second = {
    listener: proxied === undefined ? '' : `,PROXIED://127.0.0.1:${proxied.port}`,
    advertised: proxied === undefined ? '' : `,PROXIED://127.0.0.1:${proxied.advertised}`,
  };
  const properties = {
    'process.roles': 'broker,controller',
    'node.id': 1,
    listeners: `PLAINTEXT://127.0.0.1:${port},CONTROLLER://127.0.0.1:${controllerPort}${second.listener}`,
    'advertised.listeners': `PLAINTEXT://127.0.0.1:${port}${second.advertised}`,
    'listener.security.protocol.map': 'PLAINTEXT:PLAINTEXT,CONTROLLER:PLAINTEXT,PROXIED:PLAINTEXT',
    'inter.broker.listener.name': 'PLAINTEXT',
    'controller.listener.names': 'CONTROLLER',
    // The static kind of quorum: the other keeps its addresses with the data, and ours change.
    'controller.quorum.voters': `1@127.0.0.1:${controllerPort}`,
    'log.dirs': 'data',
    ...singleNode,
    ...(security && securityProperties(security, port, controllerPort)),
  };
  return Object.entries(properties)
    .map(([name, value]) => `${name}=${value}\n`)
    .join('');
}
