import type { Admin as KafkajsAdmin } from 'kafkajs';
import { wait } from './back-off.ts';
import { KafkaError } from './errors.ts';
import { errorKind, errorName } from './error-kind.ts';
import type { Logger } from './logger.ts';
import { createClient, type KafkaConfig, kafkajs } from './patched-kafkajs.ts';
import { type Grant, namingGrants } from './refusal.ts';

export interface TopicSettings {
  readonly name: string;
  readonly partitions: number;
  /** Default -1: as many as the broker's default.replication.factor says. */
  readonly replicationFactor?: number;
  /** Kafka's topic configuration, such as `{ 'cleanup.policy': 'delete' }`. */
  readonly configs?: Readonly<Record<string, string>>;
}

export interface TopicDescription {
  readonly name: string;
  readonly partitions: number;
  readonly replicationFactor: number;
}

export interface PartitionOffsets {
  readonly partition: number;
  /** Of the oldest record that is still there. */
  readonly earliest: bigint;
  /** The end as read_committed readers see it: in front of the oldest open transaction. */
  readonly latest: bigint;
}

export interface CommittedOffset {
  readonly topic: string;
  readonly partition: number;
  readonly offset: bigint;
  readonly metadata: string;
}

const patienceMilliseconds = 15_000;

const readUncommitted = 0;
const readCommitted = 1;

/** Topics, offsets and groups. Connects at the first call, and again after a lost connection. */
export class Admin {
  readonly #config: KafkaConfig;
  readonly #logger: Logger;
  #connected: Promise<KafkajsAdmin> | undefined;

  constructor(config: KafkaConfig) {
    this.#config = config;
    this.#logger = config.logger;
  }

  /** Number of brokers that answer for the cluster. */
  async brokerCount(): Promise<number> {
    const { brokers } = await this.#call((admin) => admin.describeCluster());
    return brokers.length;
  }

  /**
   * null when there is no such topic.
   * @param purpose what the caller is going to do with it: named where the brokers refuse already this
   * @throws KafkaError REFUSED
   */
  async describeTopic(
    name: string,
    purpose: 'Describe' | 'Read' | 'Write' = 'Describe',
  ): Promise<TopicDescription | null> {
    try {
      const { topics } = await this.#call(
        (admin) => admin.fetchTopicMetadata({ topics: [name] }),
        [{ operation: purpose, resource: 'topic', name }],
      );
      const partitions = topics.find((topic) => topic.name === name)?.partitions;
      return partitions?.length
        ? {
            name,
            partitions: partitions.length,
            replicationFactor: partitions[0]!.replicas.length,
          }
        : null;
    } catch (error) {
      if (isMissingTopic(error)) {
        return null;
      }
      throw error;
    }
  }

  /**
   * Creates the topics that don't exist, and checks those that do: partition count, cleanup.policy
   * and max.message.bytes (which may be larger). Other settings that differ are only logged.
   *
   * @throws KafkaError TOPIC_MISMATCH
   */
  async ensureTopics(wanted: readonly TopicSettings[]): Promise<void> {
    for (const settings of wanted) {
      const found = (await this.describeTopic(settings.name)) ?? (await this.#create(settings));
      if (found) {
        await this.#check(found, settings);
      }
    }
  }

  /** Raises the number of a topic's partitions. */
  async createPartitions(topic: string, count: number): Promise<void> {
    await this.#call(
      (admin) => admin.createPartitions({ topicPartitions: [{ topic, count }] }),
      [{ operation: 'Alter', resource: 'topic', name: topic }],
    );
    await this.#untilKnown(topic, count);
  }

  async deleteTopics(topics: readonly string[]): Promise<void> {
    await this.#call((admin) => admin.deleteTopics({ topics: [...topics] }));
  }

  /** Deletes the records in front of an offset, as retention would. */
  async deleteRecords(topic: string, partition: number, before: bigint): Promise<void> {
    // kafkajs looks for the leader before it asks for the topic's metadata.
    await this.offsets(topic);
    await this.#call((admin) =>
      admin.deleteTopicRecords({ topic, partitions: [{ partition, offset: before.toString() }] }),
    );
  }

  /**
   * The offset behind the last record of each partition. Records of transactions that are still open are
   * in front of it, though nobody can read them yet.
   *
   * @throws KafkaError TOPIC_MISSING
   */
  async ends(topic: string): Promise<Map<number, bigint>> {
    const found = await this.#fetchOffsets(topic, readUncommitted);
    return new Map(found.map(({ partition, latest }) => [partition, latest]));
  }

  /**
   * Ordered by partition. What is behind `latest` can't be read yet.
   *
   * @throws KafkaError TOPIC_MISSING
   */
  offsets(topic: string): Promise<PartitionOffsets[]> {
    return this.#fetchOffsets(topic, readCommitted);
  }

  async #fetchOffsets(topic: string, isolationLevel: 0 | 1): Promise<PartitionOffsets[]> {
    try {
      const found = await this.#call(
        (admin) => admin.fetchTopicOffsets(topic, { isolationLevel }),
        [{ operation: 'Describe', resource: 'topic', name: topic }],
      );
      return found
        .map(({ partition, low, high }) => ({
          partition,
          earliest: BigInt(low),
          latest: BigInt(high),
        }))
        .toSorted((a, b) => a.partition - b.partition);
    } catch (error) {
      throw isMissingTopic(error) ? missingTopic(topic, error) : error;
    }
  }

  /**
   * What a group has committed; partitions without a commit are left out. While a transaction with
   * offsets of the group is pending, this waits for its end, up to 22 s.
   *
   * @throws KafkaError TOPIC_MISSING
   */
  async committed(groupId: string, topics: readonly string[]): Promise<CommittedOffset[]> {
    const found = await this.#call(
      (admin) => admin.fetchOffsets({ groupId, topics: [...topics] }),
      grantsToSee(groupId, topics),
    );
    return found.flatMap(({ topic, partitions }) =>
      partitions
        .filter(({ offset }) => offset !== '-1')
        .map(({ partition, offset, metadata }) => ({
          topic,
          partition,
          offset: BigInt(offset),
          metadata: metadata ?? '',
        })),
    );
  }

  /** Whether a transaction has offsets of the group that are neither committed nor aborted yet. */
  async hasPendingOffsets(groupId: string, topics: readonly string[]): Promise<boolean> {
    try {
      await namingGrants(this.#config, grantsToSee(groupId, topics), () =>
        this.#attempt((admin) => admin.fetchOffsets({ groupId, topics: [...topics], patience: 0 })),
      );
      return false;
    } catch (error) {
      if (errorName(error) === 'UNSTABLE_OFFSET_COMMIT') {
        return true;
      }
      throw error;
    }
  }

  async close(): Promise<void> {
    const connected = this.#connected;
    this.#connected = undefined;
    await connected?.then((admin) => admin.disconnect()).catch(() => {});
  }

  /** null: somebody else created it between our look and our attempt, so it must be checked. */
  async #create(settings: TopicSettings): Promise<TopicDescription | null> {
    const configEntries = Object.entries(settings.configs ?? {}).map(([name, value]) => ({
      name,
      value,
    }));
    const created = await this.#call(
      (admin) =>
        admin.createTopics({
          // kafkajs' own wait fails on a broker that hasn't heard of the topic yet.
          waitForLeaders: false,
          topics: [
            {
              topic: settings.name,
              numPartitions: settings.partitions,
              replicationFactor: settings.replicationFactor ?? -1,
              configEntries,
            },
          ],
        }),
      [{ operation: 'Create', resource: 'topic', name: settings.name }],
    );
    if (created) {
      await this.#untilKnown(settings.name, settings.partitions);
      this.#logger.info('created a topic', {
        topic: settings.name,
        partitions: settings.partitions,
      });
      return null;
    }
    return this.describeTopic(settings.name);
  }

  /** The controller has decided; the brokers hear of it a little later, and refuse until then. */
  async #untilKnown(topic: string, partitions: number): Promise<void> {
    const giveUpAt = performance.now() + patienceMilliseconds;
    for (;;) {
      try {
        // Each leader is asked, since a partition is known a little before its leader takes records.
        const found = await this.offsets(topic);
        if (found.length === partitions) {
          return;
        }
      } catch (error) {
        if (!isMissingTopic(error) && !isLeaderless(error)) {
          throw error;
        }
      }
      if (performance.now() > giveUpAt) {
        throw missingTopic(topic);
      }
      await wait(20);
    }
  }

  async #check(found: TopicDescription, wanted: TopicSettings): Promise<void> {
    const topic = wanted.name;
    if (found.partitions !== wanted.partitions) {
      throw new KafkaError(
        'TOPIC_MISMATCH',
        `Topic ${topic} has ${found.partitions} partitions and must have ${wanted.partitions}: ` +
          (found.partitions < wanted.partitions
            ? 'add the missing ones, or delete it if it holds nothing of value'
            : 'partitions cannot be removed, so use another name or recreate it'),
        { topic },
      );
    }
    const { resources } = await this.#call(
      (admin) =>
        admin.describeConfigs({
          includeSynonyms: false,
          resources: [{ type: kafkajs.ConfigResourceTypes.TOPIC, name: topic }],
        }),
      [{ operation: 'DescribeConfigs', resource: 'topic', name: topic }],
    );
    const values = new Map(
      resources[0]?.configEntries.map(({ configName, configValue }) => [configName, configValue]),
    );
    for (const [name, value] of Object.entries(wanted.configs ?? {})) {
      const is = values.get(name);
      if (is === undefined || is === value) {
        continue;
      }
      const harmless = name === 'max.message.bytes' && Number(is) >= Number(value);
      if (name === 'cleanup.policy' || (name === 'max.message.bytes' && !harmless)) {
        throw new KafkaError(
          'TOPIC_MISMATCH',
          `Topic ${topic} has ${name}=${is} and must have ${value}: change it with kafka-configs.sh --alter --entity-type topics --entity-name ${topic} --add-config ${name}=[${value}]`,
          { topic },
        );
      }
      if (!harmless) {
        this.#logger.warn('a topic has other settings than it was to have', {
          topic,
          setting: name,
          is,
          wanted: value,
        });
      }
    }
  }

  /**
   * Repeats a call while a coordinator moves, or is made: the first group of a new cluster waits for its topic.
   * @param grants what the call needs
   */
  async #call<T>(
    use: (admin: KafkajsAdmin) => Promise<T>,
    grants: readonly Grant[] = [],
  ): Promise<T> {
    const giveUpAt = performance.now() + patienceMilliseconds;
    for (let attempt = 0; ; attempt++) {
      try {
        return await namingGrants(this.#config, grants, () => this.#attempt(use));
      } catch (error) {
        const kind = errorKind(error);
        // A lost connection is worth one more look: a call beside this one may have closed it.
        const again = kind === 'repeat' || (kind === 'away' && attempt === 0);
        if (!again || performance.now() > giveUpAt) {
          throw error;
        }
        await wait(50);
      }
    }
  }

  async #attempt<T>(use: (admin: KafkajsAdmin) => Promise<T>): Promise<T> {
    const connected = (this.#connected ??= this.#connect());
    try {
      return await use(await connected);
    } catch (error) {
      // kafkajs keeps broken connections and stale brokers, so the next call starts with new ones.
      if (errorKind(error) === 'away' && this.#connected === connected) {
        void this.close();
      }
      throw error;
    }
  }

  async #connect(): Promise<KafkajsAdmin> {
    const admin = createClient(this.#config, { retries: 3, initialRetryTime: 100 }).admin();
    try {
      await admin.connect();
    } catch (error) {
      void admin.disconnect().catch(() => {});
      throw error;
    }
    return admin;
  }
}

export function missingTopic(topic: string, cause?: unknown): KafkaError {
  return new KafkaError('TOPIC_MISSING', `Topic ${topic} doesn't exist`, { topic, cause });
}

function isMissingTopic(error: unknown): boolean {
  return hasType(error, ['UNKNOWN_TOPIC_OR_PARTITION']);
}

function isLeaderless(error: unknown): boolean {
  return hasType(error, ['NOT_LEADER_FOR_PARTITION', 'LEADER_NOT_AVAILABLE']);
}

function hasType(error: unknown, types: readonly string[]): boolean {
  for (let at = error; at instanceof Error; at = at.cause) {
    const { type } = at as { type?: unknown };
    if (typeof type === 'string' && types.includes(type)) {
      return true;
    }
  }
  return false;
}

/** What a group has committed. */
function grantsToSee(groupId: string, topics: readonly string[]): Grant[] {
  return [
    { operation: 'Describe', resource: 'group', name: groupId },
    ...topics.map((name) => ({ operation: 'Describe', resource: 'topic', name }) as const),
  ];
}
