import type { CompressionTypes, Message, Producer as KafkajsProducer } from 'kafkajs';
import type { Codec } from './compression.ts';
import { KafkaError } from './errors.ts';
import { createClient, type KafkaConfig, kafkajs } from './patched-kafkajs.ts';
import { defaultSendLimits, type OutgoingMessage, type Send, splitIntoSends } from './sends.ts';

/** A message whose partition, if it has none, the hash of its key decides, as Java's producer does. */
export type PlainMessage = Omit<OutgoingMessage, 'topic' | 'partition' | 'value' | 'key'> & {
  readonly partition?: number;
  readonly key?: Buffer | string | null;
  readonly value: Buffer | string | null;
};

/** Kept apart from ours, because kafkajs adds to the messages it is given. */
export function toKafkajs(message: Omit<PlainMessage, 'topic'>): Message {
  const { key, value, partition, headers, timestamp } = message;
  return {
    value,
    ...(key === undefined ? {} : { key }),
    ...(partition === undefined ? {} : { partition }),
    ...(headers === undefined ? {} : { headers: { ...headers } }),
    ...(timestamp === undefined ? {} : { timestamp: String(timestamp) }),
  };
}

const compressionTypes: Readonly<Record<Codec, CompressionTypes>> = {
  none: kafkajs.CompressionTypes.None,
  gzip: kafkajs.CompressionTypes.GZIP,
  snappy: kafkajs.CompressionTypes.Snappy,
  lz4: kafkajs.CompressionTypes.LZ4,
  zstd: kafkajs.CompressionTypes.ZSTD,
};

/**
 * A plain producer: at least once, so a message may appear twice when a connection breaks. Services
 * write through a StepLoop instead.
 */
export class Producer {
  readonly #config: KafkaConfig;
  #producer: KafkajsProducer;
  #connecting: Promise<void> | undefined;
  /** One send at a time keeps the order, and kafkajs' retries from mixing them. */
  #last: Promise<unknown> = Promise.resolve();

  constructor(config: KafkaConfig) {
    this.#config = config;
    this.#producer = create(config);
  }

  /**
   * Resolves once all in-sync replicas have all messages.
   *
   * @throws KafkaError SEND_INCOMPLETE where a partition doesn't exist, and what kafkajs throws
   */
  async send(
    topic: string,
    messages: readonly PlainMessage[],
    options: { compression?: Codec } = {},
  ): Promise<void> {
    const sending = this.#last.then(() =>
      this.#send(topic, messages, options.compression ?? 'none'),
    );
    this.#last = sending.catch(() => {});
    await sending;
  }

  async close(): Promise<void> {
    await this.#last;
    await this.#producer.disconnect();
  }

  async #send(topic: string, messages: readonly PlainMessage[], codec: Codec): Promise<void> {
    const sized = messages.map((message) => ({
      ...message,
      topic,
      key: typeof message.key === 'string' ? Buffer.from(message.key) : (message.key ?? null),
      value: typeof message.value === 'string' ? Buffer.from(message.value) : message.value,
    }));
    for (const send of splitIntoSends(sized, defaultSendLimits)) {
      const left = await this.#attempt(send, codec);
      if (left.length === 0) {
        continue;
      }
      // A partition that was added since the connection was made: a new one knows it.
      await this.#producer.disconnect();
      this.#producer = create(this.#config);
      this.#connecting = undefined;
      const lost = await this.#attempt(left, codec);
      if (lost.length > 0) {
        const partitions = lost.flatMap((part) => part.messages.map(({ partition }) => partition));
        throw new KafkaError(
          'SEND_INCOMPLETE',
          `The brokers did not acknowledge what was sent to ${topic}/${[...new Set(partitions)].join(', ')}: does it have these partitions?`,
          { topic },
        );
      }
    }
  }

  /**
   * @returns what was not acknowledged: kafkajs leaves out, without a word, what is for a partition that
   *   it doesn't know
   */
  async #attempt<M extends SizedMessage>(send: Send<M>, codec: Codec): Promise<Send<M>> {
    this.#connecting ??= this.#producer.connect();
    await this.#connecting.catch((error: unknown) => {
      this.#connecting = undefined;
      throw error;
    });
    const acknowledged = await this.#producer.sendBatch({
      compression: compressionTypes[codec],
      topicMessages: send.map(({ topic, messages }) => ({
        topic,
        messages: messages.map(toKafkajs),
      })),
    });
    const taken = new Set(
      acknowledged
        .filter(({ errorCode }) => errorCode === 0)
        .map(({ topicName, partition }) => `${topicName}/${partition}`),
    );
    return send
      .map(({ topic, messages }) => ({
        topic,
        messages: messages.filter(
          ({ partition }) => partition !== undefined && !taken.has(`${topic}/${partition}`),
        ),
      }))
      .filter(({ messages }) => messages.length > 0);
  }
}

type SizedMessage = Omit<OutgoingMessage, 'partition'> & { readonly partition?: number };

function create(config: KafkaConfig): KafkajsProducer {
  return createClient(config, { retries: 5, initialRetryTime: 100 }).producer({
    createPartitioner: kafkajs.Partitioners.DefaultPartitioner,
    allowAutoTopicCreation: false,
  });
}
