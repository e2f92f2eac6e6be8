import type { Producer as KafkajsProducer, Transaction as KafkajsTransaction } from 'kafkajs';
import { wait } from './back-off.ts';
import { errorKind, errorName } from './error-kind.ts';
import { KafkaError } from './errors.ts';
import { createClient, type KafkaConfig } from './patched-kafkajs.ts';
import { toKafkajs } from './producer.ts';
import { type Grant, namingGrants } from './refusal.ts';
import {
  defaultSendLimits,
  type OutgoingMessage,
  type SendLimits,
  splitIntoSends,
} from './sends.ts';

export interface TransactionalProducerOptions {
  /** The same after a restart: that is what aborts the transaction which a crash left open. */
  readonly transactionalId: string;
  /** Milliseconds after which the brokers abort a transaction. Default 10 s. */
  readonly transactionTimeout?: number;
  readonly sendLimits?: SendLimits;
  /** What former producers of this id may have written to, and must have ended. Default: nothing. */
  readonly reach?: TransactionReach;
}

/** All that transactions of one id take part in. */
export interface TransactionReach {
  readonly groupId: string;
  readonly partitions: readonly { readonly topic: string; readonly partition: number }[];
  /** Whether offsets of the group are pending: asked once the former transaction should have ended. */
  isPending(): Promise<boolean>;
}

export interface ProcessedOffset {
  readonly topic: string;
  readonly partition: number;
  /** The next one to read. */
  readonly offset: bigint;
  readonly metadata?: string;
}

/** Who commits offsets: they are refused from a member or a generation that has been replaced. */
export interface GroupMembership {
  readonly groupId: string;
  readonly generation: number;
  readonly memberId: string;
}

/**
 * One transaction and one send at a time. After any error this producer is broken: close it and
 * open another one with the same transactional id, which aborts what was open. Aborting and going
 * on with the same kafkajs producer loses the next transaction, because the broker takes it for a
 * repetition of the aborted one.
 */
export class TransactionalProducer {
  readonly #config: KafkaConfig;
  readonly #producer: KafkajsProducer;
  readonly #options: Required<Omit<TransactionalProducerOptions, 'reach'>>;
  #broken = false;
  #begunAt = 0;

  /**
   * Fences the former producer of this id, and ends its transaction wherever it reached.
   *
   * @throws what kafkajs throws; KafkaError STOPPED by the signal
   */
  static async open(
    config: KafkaConfig,
    options: TransactionalProducerOptions,
    signal?: AbortSignal,
  ): Promise<TransactionalProducer> {
    const opened = new TransactionalProducer(config, options);
    try {
      await opened.#producer.connect();
      await opened.#initialize(options.reach, signal);
    } catch (error) {
      void opened.close();
      throw errorKind(error) === 'fenced' && opened.timedOut ? opened.#tooSlow(error) : error;
    }
    return opened;
  }

  private constructor(config: KafkaConfig, options: TransactionalProducerOptions) {
    this.#config = config;
    this.#options = { transactionTimeout: 10_000, sendLimits: defaultSendLimits, ...options };
    // Retries of metadata and coordinator look-ups are harmless, those of sends are not: they report
    // success for records that were never appended when a leader moves in between.
    this.#producer = createClient(config, { retries: 8, initialRetryTime: 20 }).producer({
      createPartitioner: () => partitionOf,
      transactionalId: options.transactionalId,
      transactionTimeout: this.#options.transactionTimeout,
      maxInFlightRequests: 1,
      allowAutoTopicCreation: false,
      retry: { retries: 0, initialRetryTime: 20 },
    });
  }

  /** True once anything failed. */
  get broken(): boolean {
    return this.#broken;
  }

  /** True when the transaction that failed may have been ended by the brokers for its age. */
  get timedOut(): boolean {
    return performance.now() - this.#begunAt >= this.#options.transactionTimeout * 0.9;
  }

  /** Sends, commits the group's offsets with them, and commits. All or nothing, but see `timedOut`. */
  async commit(
    messages: readonly OutgoingMessage[],
    offsets: readonly ProcessedOffset[],
    group: GroupMembership | null,
  ): Promise<void> {
    const transaction = await this.begin();
    await transaction.send(messages);
    if (group && offsets.length > 0) {
      await transaction.sendOffsets(offsets, group);
    }
    await transaction.commit();
  }

  async begin(): Promise<Transaction> {
    return this.#breaking(async () => {
      this.#begunAt = performance.now();
      const transaction = await this.#producer.transaction();
      return new Transaction(this.#config, transaction, this.#options, (work) =>
        this.#breaking(work),
      );
    });
  }

  async close(): Promise<void> {
    this.#broken = true;
    await this.#producer.disconnect().catch(() => {});
  }

  /**
   * The id is initialized, and the former producer fenced, at the first transaction: so begin one right
   * away. It takes in all that the former ones may have reached, because brokers can forget a
   * transaction. One that is killed and comes back as the only replica first has itself for the
   * leader, then nobody; a transaction of which the coordinator still has to tell the partitions
   * that it is committed or aborted counts as told then ("likely deleted", TransactionMarkerChannelManager
   * of Kafka 4.3). Its records and offsets would stay pending for ever, and with them all that comes
   * after.
   *
   * What is forgotten ends as this transaction does. Offsets are written last: where they are pending, the
   * forgotten one was complete and most likely being committed, and some partitions may know already,
   * so this one is committed too. Without them it may lack records, and is aborted.
   */
  async #initialize(reach: TransactionReach | undefined, signal?: AbortSignal): Promise<void> {
    const begun = await this.#persist(() => this.#producer.transaction(), signal);
    this.#begunAt = performance.now();
    if (reach) {
      if (reach.partitions.length > 0) {
        await this.#persist(
          () => addPartitions(this.#config, begun, partitionsOf(reach.partitions)),
          signal,
        );
      }
      await this.#persist(
        () => begun.sendOffsets({ consumerGroupId: reach.groupId, topics: [] }),
        signal,
      );
      if (await reach.isPending()) {
        return begun.commit();
      }
    }
    await begun.abort();
  }

  /** The brokers have ended the transaction for its age: nobody else has our name. */
  #tooSlow(error: unknown): Error {
    const { transactionalId, transactionTimeout } = this.#options;
    const message = `The first transaction of ${transactionalId} took more than ${transactionTimeout} ms (${errorName(error)}): the brokers are slow, so it is tried again`;
    return Object.assign(new Error(message), { retriable: true });
  }

  /** Until the former transaction has ended. */
  async #persist<T>(call: () => Promise<T>, signal: AbortSignal | undefined): Promise<T> {
    const giveUpAt = performance.now() + 3 * this.#options.transactionTimeout;
    for (;;) {
      try {
        return await call();
      } catch (error) {
        if (errorKind(error) !== 'repeat' || performance.now() > giveUpAt) {
          throw error;
        }
        await wait(20, signal);
      }
    }
  }

  /** Broken until the work has succeeded, so an overlapping call is refused as well. */
  async #breaking<T>(work: () => Promise<T>): Promise<T> {
    if (this.#broken) {
      throw new Error('This transactional producer failed before: open another one');
    }
    this.#broken = true;
    const result = await work();
    this.#broken = false;
    return result;
  }
}

/** Of a TransactionalProducer. Any error breaks the producer. */
export class Transaction {
  readonly #config: KafkaConfig;
  readonly #transaction: KafkajsTransaction;
  readonly #limits: SendLimits;
  readonly #timeout: number;
  readonly #breaking: <T>(work: () => Promise<T>) => Promise<T>;

  constructor(
    config: KafkaConfig,
    transaction: KafkajsTransaction,
    options: Required<Omit<TransactionalProducerOptions, 'reach'>>,
    breaking: <T>(work: () => Promise<T>) => Promise<T>,
  ) {
    this.#config = config;
    this.#transaction = transaction;
    this.#limits = options.sendLimits;
    this.#timeout = options.transactionTimeout;
    this.#breaking = breaking;
  }

  /** @throws KafkaError SEND_INCOMPLETE, MESSAGE_TOO_LARGE, and what kafkajs throws */
  async send(messages: readonly OutgoingMessage[]): Promise<void> {
    if (messages.length === 0) {
      return;
    }
    await this.#breaking(async () => {
      // Right after a commit nearly every transaction meets CONCURRENT_TRANSACTIONS here. Met inside
      // of a send it couldn't be repeated: another broker may have appended its part already.
      await this.#repeat(() =>
        addPartitions(this.#config, this.#transaction, partitionsOf(messages)),
      );
      for (const send of splitIntoSends(messages, this.#limits)) {
        await this.#sendOnce(send);
      }
    });
  }

  async sendOffsets(offsets: readonly ProcessedOffset[], group: GroupMembership): Promise<void> {
    const topics = Map.groupBy(offsets, ({ topic }) => topic);
    await this.#breaking(() =>
      this.#repeat(() =>
        this.#transaction.sendOffsets({
          consumerGroupId: group.groupId,
          generationId: group.generation,
          memberId: group.memberId,
          topics: [...topics].map(([topic, partitions]) => ({
            topic,
            partitions: partitions.map(({ partition, offset, metadata }) => ({
              partition,
              offset: offset.toString(),
              metadata: metadata ?? null,
            })),
          })),
        }),
      ),
    );
  }

  /** After an error it is unknown whether the transaction is committed. */
  async commit(): Promise<void> {
    await this.#breaking(() => this.#transaction.commit());
  }

  /** For tests of readers: services never abort, they open another producer. Breaks this one. */
  async abort(): Promise<void> {
    const aborted = new Error('The transaction is aborted');
    await this.#breaking(async () => {
      await this.#transaction.abort();
      throw aborted;
    }).catch((error: unknown) => {
      if (error !== aborted) {
        throw error;
      }
    });
  }

  async #sendOnce(send: { topic: string; messages: OutgoingMessage[] }[]): Promise<void> {
    const expected = new Set(
      send.flatMap(({ topic, messages }) =>
        messages.map(({ partition }) => `${topic}/${partition}`),
      ),
    );
    let acknowledged;
    try {
      acknowledged = await namingGrants(
        this.#config,
        send.map(({ topic }) => writing(topic)),
        () =>
          this.#transaction.sendBatch({
            acks: -1,
            topicMessages: send.map(({ topic, messages }) => ({
              topic,
              messages: messages.map(toKafkajs),
            })),
          }),
      );
    } catch (error) {
      throw errorKind(error) === 'too-large' ? messageTooLarge(send, error) : error;
    }
    for (const { topicName, partition, errorCode } of acknowledged) {
      if (errorCode === 0) {
        expected.delete(`${topicName}/${partition}`);
      }
    }
    // kafkajs silently leaves out a partition that its metadata doesn't know yet.
    if (expected.size > 0) {
      throw new KafkaError(
        'SEND_INCOMPLETE',
        `The brokers did not acknowledge what was sent to ${[...expected].join(', ')}`,
      );
    }
  }

  /** For calls that can be repeated in the same transaction, and within its time. */
  async #repeat(call: () => Promise<void>): Promise<void> {
    const giveUpAt = performance.now() + this.#timeout / 2;
    for (let pause = 2; ; pause = Math.min(2 * pause, 20)) {
      try {
        await call();
        return;
      } catch (error) {
        if (errorKind(error) !== 'repeat' || performance.now() > giveUpAt) {
          throw error;
        }
        await wait(pause);
      }
    }
  }
}

function writing(topic: string): Grant {
  return { operation: 'Write', resource: 'topic', name: topic };
}

/**
 * Where a topic is refused, the others answer only that they were not attempted, and kafkajs reports
 * the first answer: so each is asked for alone until one says why.
 */
async function addPartitions(
  config: KafkaConfig,
  transaction: KafkajsTransaction,
  topics: { topic: string; partitions: { partition: number }[] }[],
): Promise<void> {
  try {
    await namingGrants(
      config,
      topics.length === 1 ? topics.map(({ topic }) => writing(topic)) : [],
      () => transaction.addPartitions(topics),
    );
  } catch (error) {
    if (topics.length > 1 && !['away', 'repeat', 'fenced'].includes(errorKind(error))) {
      for (const topic of topics) {
        await addPartitions(config, transaction, [topic]);
      }
    }
    throw error;
  }
}

function partitionOf({ message }: { message: { partition?: number } }): number {
  return message.partition!;
}

function partitionsOf(
  messages: readonly { readonly topic: string; readonly partition: number }[],
): { topic: string; partitions: { partition: number }[] }[] {
  const partitions = new Map<string, Set<number>>();
  for (const { topic, partition } of messages) {
    let known = partitions.get(topic);
    if (!known) {
      partitions.set(topic, (known = new Set()));
    }
    known.add(partition);
  }
  return [...partitions].map(([topic, numbers]) => ({
    topic,
    partitions: [...numbers].map((partition) => ({ partition })),
  }));
}

function messageTooLarge(
  send: { topic: string; messages: OutgoingMessage[] }[],
  cause: unknown,
): KafkaError {
  const largest = send
    .flatMap(({ topic, messages }) => messages.map((message) => ({ ...message, topic })))
    .reduce((a, b) => ((b.value?.length ?? 0) > (a.value?.length ?? 0) ? b : a));
  return new KafkaError(
    'MESSAGE_TOO_LARGE',
    `A message of ${largest.value?.length ?? 0} bytes is more than topic ${largest.topic} allows (${errorName(cause)}): raise its max.message.bytes`,
    { topic: largest.topic, partition: largest.partition, cause },
  );
}
