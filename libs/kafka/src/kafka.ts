import { Admin } from './admin.ts';
import { backOff, wait } from './back-off.ts';
import type { KafkaConfig } from './patched-kafkajs.ts';
import { Producer } from './producer.ts';
import { readTail, readTopic, type TailVisitor, type TopicVisitor } from './read-topic.ts';
import { StepLoop, type StepLoopOptions } from './step-loop.ts';
import { reportAway, waitForTopic } from './wait-for-topic.ts';
import {
  TransactionalProducer,
  type TransactionalProducerOptions,
} from './transactional-producer.ts';

/** A cluster, and all that we do with it. `connect` makes one. */
export class Kafka {
  readonly admin: Admin;
  readonly #config: KafkaConfig;

  constructor(config: KafkaConfig) {
    this.#config = config;
    this.admin = new Admin(config);
  }

  /** Starts nothing yet: see StepLoop.start. */
  stepLoop(options: StepLoopOptions): StepLoop {
    return new StepLoop(this.#config, options);
  }

  /** Connects at its first send. */
  producer(): Producer {
    return new Producer(this.#config);
  }

  transactionalProducer(
    options: TransactionalProducerOptions,
    signal?: AbortSignal,
  ): Promise<TransactionalProducer> {
    return TransactionalProducer.open(this.#config, options, signal);
  }

  /**
   * Waits until the topic exists and returns its number of partitions. `onWaiting` is called once if
   * it has to wait.
   *
   * @throws KafkaError STOPPED, REFUSED
   */
  async waitForTopic(
    name: string,
    onWaiting: () => void = () => {},
    signal?: AbortSignal,
  ): Promise<number> {
    return waitForTopic(this.admin, this.#config, name, onWaiting, signal);
  }

  /** Reads all committed records that a topic has now. For tests and tools. */
  readTopic(topic: string, visit: TopicVisitor): Promise<void> {
    return readTopic(this.#config, topic, visit);
  }

  /** See `readTail`. */
  readTail(topic: string, from: ReadonlyMap<number, bigint>, visit: TailVisitor): Promise<void> {
    return readTail(this.#config, topic, from, visit);
  }

  /** Closes the admin client. Loops and producers are closed by who made them. */
  close(): Promise<void> {
    return this.admin.close();
  }
}

/**
 * Waits until a broker answers, and says in the log what it waits for.
 *
 * @throws KafkaError NOT_PATCHED, REFUSED, STOPPED
 */
export async function connect(config: KafkaConfig, signal?: AbortSignal): Promise<Kafka> {
  const kafka = new Kafka(config);
  for (let attempt = 0; ; attempt++) {
    try {
      const brokers = await kafka.admin.brokerCount();
      config.logger.info('connected to Kafka', { brokers: config.brokers, found: brokers });
      return kafka;
    } catch (error) {
      reportAway(config, error, attempt);
      await wait(backOff(attempt), signal);
    }
  }
}
