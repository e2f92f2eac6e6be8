import { crc32c } from '@node-rs/crc32';
import kafkajs from 'kafkajs';
import type { KafkaConfig as KafkajsConfig, RetryOptions } from 'kafkajs';
import { type Codec, compress } from './compression.ts';
import { KafkaError } from './errors.ts';
import type { Logger } from './logger.ts';

/** How to reach the brokers, and who we are. */
export interface KafkaConfig {
  /** `host:port` of one or more brokers. */
  readonly brokers: readonly string[];
  /** Names us in the brokers' logs and quotas. */
  readonly clientId: string;
  /** true: TLS with the system's authorities; or Node's TLS options. */
  readonly ssl?: KafkajsConfig['ssl'];
  readonly sasl?: KafkajsConfig['sasl'];
  readonly logger: Logger;
}

export { kafkajs };

const patchVersion = 7;

/** Of the records that the producers of this process send. */
const producerCodecs: readonly (readonly [number, Codec])[] = [
  [kafkajs.CompressionTypes.GZIP, 'gzip'],
  [kafkajs.CompressionTypes.Snappy, 'snappy'],
  [kafkajs.CompressionTypes.LZ4, 'lz4'],
  [kafkajs.CompressionTypes.ZSTD, 'zstd'],
];

/** @throws KafkaError NOT_PATCHED when kafkajs is as its authors left it: five of its faults lose or duplicate records. */
export function assertPatched(found: { version: number } | undefined): void {
  if (found?.version !== patchVersion) {
    throw new KafkaError(
      'NOT_PATCHED',
      `kafkajs in node_modules ${found ? `has patch ${found.version}` : 'is not patched'}, patch ${patchVersion} is needed: run \`npm ci\``,
    );
  }
}

/**
 * A kafkajs client with our settings. Each consumer, producer and admin gets a client of its own:
 * those of one client share a cache of committed offsets, into which a producer writes before its
 * transaction commits.
 */
export function createClient(config: KafkaConfig, retry: RetryOptions): kafkajs.Kafka {
  // Not every bundler keeps an absent export undefined, hence the look at the object.
  assertPatched((kafkajs as { anabranchPatch?: { version: number } }).anabranchPatch);
  // The checksum in JavaScript is two thirds of what encoding a block costs.
  kafkajs.anabranchPatch.useCrc32c(crc32c);
  for (const [type, codec] of producerCodecs) {
    // Only producers compress here: consumers hand out record batches as they come.
    (kafkajs.CompressionCodecs as Record<number, unknown>)[type] = () => ({
      compress: (encoder: { buffer: Buffer }) => Promise.resolve(compress(codec, encoder.buffer)),
    });
  }
  const { logger } = config;
  return new kafkajs.Kafka({
    brokers: [...config.brokers],
    clientId: config.clientId,
    ...(config.ssl === undefined ? {} : { ssl: config.ssl }),
    ...(config.sasl === undefined ? {} : { sasl: config.sasl }),
    // kafkajs' one second is too short for a TLS handshake on a busy machine.
    connectionTimeout: 5_000,
    requestTimeout: 30_000,
    retry,
    logLevel: kafkajs.logLevel.INFO,
    // What kafkajs calls an error is mostly something it retries; those that matter reach us as
    // exceptions and events, and are logged with what they mean.
    logCreator:
      () =>
      ({ namespace, level, log }) => {
        const { message, error, groupId, topic, broker } = log as Record<string, unknown>;
        logger.debug(`kafkajs: ${String(message)}`, {
          namespace,
          kafkajsLevel: kafkajs.logLevel[level],
          ...(typeof error === 'string' ? { error } : {}),
          ...(groupId === undefined ? {} : { groupId }),
          ...(topic === undefined ? {} : { topic }),
          ...(broker === undefined ? {} : { broker }),
        });
      },
  });
}
