import type { Consumer, ConsumerCrashEvent } from 'kafkajs';
import { Admin, missingTopic } from './admin.ts';
import { backOff, wait, within } from './back-off.ts';
import { errorKind, errorName } from './error-kind.ts';
import { HaltPartition, KafkaError, type KafkaErrorCode } from './errors.ts';
import { createClient, type KafkaConfig } from './patched-kafkajs.ts';
import { PartitionQueue, type PartitionWork, takeWork } from './partition-queue.ts';
import { refused } from './refusal.ts';
import type { OutgoingMessage } from './sends.ts';
import { type ProcessedOffset, TransactionalProducer } from './transactional-producer.ts';
import { waitForTopic } from './wait-for-topic.ts';

export interface StepLoopOptions {
  readonly groupId: string;
  /** Name of this instance, unique among those of the service and kept across restarts. */
  readonly instance: string;
  /** `<service>.<instance>` */
  readonly transactionalId: string;
  /** Waited for at start when they don't exist yet. */
  readonly topics: readonly string[];
  /** What steps send to. A producer that begins ends there what its predecessors left open. Default: nothing. */
  readonly targets?: readonly string[];
  /**
   * true: messages and offsets of a step are committed in one transaction, fenced by the group's
   * generation. false: the step has its own store; offsets are committed afterwards as a hint that
   * may be lost, and messages are not allowed.
   */
  readonly transactional: boolean;
  /** Milliseconds after which the brokers abort a transaction. Default 10 s. */
  readonly transactionTimeout?: number;
  readonly limits: StepLimits;
  /** A step is run at least this often, without work if there is none. Milliseconds. */
  readonly idleMilliseconds: number;
  /** How soon an added partition is noticed. Milliseconds, default 5 s. */
  readonly metadataMaxAge?: number;
  /** How long an instance that has vanished keeps its partitions. Milliseconds, default 30 s. */
  readonly sessionTimeout?: number;

  /** A topic is waited for. */
  onWaitingForTopic?(topic: string): void;
  /**
   * Called before the first step of a generation, and again after each fault, since everything goes
   * on from what is committed. Returns where to begin; without a word about a partition it is
   * the committed offset, or the earliest when there is none.
   */
  assigned(
    partitions: readonly AssignedPartition[],
    context: AssignedContext,
  ): MaybePromise<readonly StartOffset[] | void>;
  /** What was made of the partitions since `assigned` must be dropped: nothing of it was committed. */
  revoked(): MaybePromise<void>;
  /**
   * Turns work into messages and offsets. null: there is nothing to commit yet, the service keeps the
   * work. Never called again before it has ended. May throw HaltPartition; an error with `fatal: true`
   * ends the loop, one with `retriable: true` is retried for ever, one with `rejoin: true` (somebody
   * else seems to own the partitions) leaves the group and joins it anew, others are retried some times.
   */
  step(work: readonly PartitionWork[], context: StepContext): MaybePromise<StepResult | null>;
  /** A partition is halted because offsets that were to be read don't exist. */
  lost?(range: LostRange): void;
  /** The loop has ended for good: the process should too, with an exit code that says so. */
  onFatal(error: Error): void;
}

type MaybePromise<T> = T | Promise<T>;

export interface StepLimits {
  /** A step gets about this many bytes at most, over all partitions. */
  readonly stepBytes: number;
  /** How long to gather after the first data. */
  readonly stepMilliseconds: number;
  /** Fetched bytes, over all partitions, above which fetching pauses, and below which it resumes. */
  readonly queueHighBytes: number;
  readonly queueLowBytes: number;
}

export interface AssignedPartition {
  readonly topic: string;
  readonly partition: number;
  readonly generation: number;
  /** null: the group has never committed. */
  readonly committed: { readonly offset: bigint; readonly metadata: string } | null;
  readonly earliest: bigint;
  readonly latest: bigint;
}

export interface AssignedContext {
  /** Aborted when the partitions are taken away meanwhile. */
  readonly signal: AbortSignal;
  /** `StepLoop.halt`: for a partition whose committed position makes no sense, say. */
  halt(topic: string, partition: number, reason: string): void;
}

export interface StartOffset {
  readonly topic: string;
  readonly partition: number;
  readonly offset: bigint;
}

export interface StepContext {
  readonly generation: number;
  /** Aborted when the result can't be committed any more: the partitions have been taken away, or time is up. */
  readonly signal: AbortSignal;
  /** `StepLoop.halt`: what the step's result says of the partition is still committed. */
  halt(topic: string, partition: number, reason: string): void;
  /** `StepLoop.wake` */
  wake(): void;
}

export interface StepResult {
  readonly messages: readonly OutgoingMessage[];
  readonly offsets: readonly ProcessedOffset[];
  /**
   * Called once the transaction is through, before the next step: the place to move state that goes
   * with the offsets. Not called when the outcome is anything else: then `assigned` comes next.
   */
  committed?(): void | Promise<void>;
}

/** `expected` was to be read next, and the partition has only [earliest, latest). */
export interface LostRange {
  readonly topic: string;
  readonly partition: number;
  readonly expected: bigint;
  readonly earliest: bigint;
  readonly latest: bigint;
}

export interface StepLoopState {
  /** Member of the group, and its partitions are being processed. */
  readonly joined: boolean;
  /** -1 before the first one. */
  readonly generation: number;
  readonly partitions: readonly PartitionState[];
  /** Milliseconds since the epoch; null before the first one. */
  readonly lastHeartbeatAt: number | null;
  readonly queuedBytes: number;
  /** Steps that ended without an error. */
  readonly steps: number;
  /** Committed ones. */
  readonly transactions: number;
  /** Times that all was thrown away and begun again from what is committed. */
  readonly rebuilds: number;
  /** The last error that caused one; null after a minute without. */
  readonly lastError: string | null;
  readonly halted: readonly HaltedPartition[];
  readonly fatal: Error | null;
}

export interface PartitionState {
  readonly topic: string;
  readonly partition: number;
  /** The next offset that a step will get. */
  readonly position: bigint;
  /** Offsets from there to the end of the partition, when it was last fetched from. */
  readonly lagRecords: bigint;
  readonly queuedBytes: number;
}

export interface HaltedPartition {
  readonly topic: string;
  readonly partition: number;
  readonly reason: string;
}

interface Join {
  readonly generation: number;
  readonly memberId: string;
  readonly assignment: ReadonlyMap<string, readonly number[]>;
}

/** kafkajs sends heartbeats between fetches, so a fetch must not wait longer than about this. */
const fetchWaitMilliseconds = 100;
const fetchBytes = 32 * 1024 * 1024;
const fetchBytesPerPartition = 4 * 1024 * 1024;
const heartbeatMilliseconds = 3_000;
const rebalanceMilliseconds = 60_000;

/** Faults that are not the brokers' absence, each within a minute of the one before, until the loop gives up. */
const faultsToGiveUp = 10;
const faultMemoryMilliseconds = 60_000;

/**
 * Ticks of a second without a sign of life of the consumer, or a generation, until it is replaced.
 * Joining may take as long as the slowest member: a rebalance and a session timeout. Ticks are counted, not time, so
 * that a process which was stopped doesn't take its own sleep for the consumer's silence.
 */
const silentTicks = 100;

const hopelessCodes: ReadonlySet<KafkaErrorCode> = new Set([
  'FENCED',
  'MESSAGE_TOO_LARGE',
  'REFUSED',
  'TOPIC_MISMATCH',
]);

/**
 * Consume, transform, produce, exactly once: joins a group, gathers what its partitions bring, and
 * hands it to `step`, one step at a time; what the step returns is committed in one transaction with the offsets.
 * Whatever goes wrong, the rule is the same: throw away everything that isn't committed, and go on from what is.
 */
export class StepLoop {
  readonly #config: KafkaConfig;
  readonly #options: StepLoopOptions;
  readonly #admin: Admin;

  #running: Promise<void> | undefined;
  #stopping = false;
  /** Ends waits. */
  readonly #stop = new AbortController();

  #consumer: Consumer | undefined;
  #crash: Error | undefined;
  #silence = 0;
  #producer: TransactionalProducer | undefined;

  /** The newest generation; its partitions are paused until `#assigned` has caught up with it. */
  #join: Join | undefined;
  /** The generation whose partitions are being processed. */
  #assigned: Join | undefined;
  /** Aborted when what the service holds, and the step it is in, can't be committed any more. */
  #validity = new AbortController();
  /** `assigned` was called, and `revoked` not yet. */
  #held = false;
  #queues = new Map<string, PartitionQueue>();
  #halted = new Map<string, HaltedPartition>();
  /** The generation in which they were halted. */
  #haltedIn = -1;
  #hints = new Map<string, ProcessedOffset>();
  #hinting = false;

  #first = 0;
  #dataSince: number | undefined;
  #steppedAt = 0;
  #positionsAt = 0;
  #woken = false;
  #notify: () => void = () => {};

  #lastHeartbeatAt: number | null = null;
  #steps = 0;
  #transactions = 0;
  #rebuilds = 0;
  #faults = 0;
  #faultAt = 0;
  #lastError: string | null = null;
  #fatal: Error | null = null;

  constructor(config: KafkaConfig, options: StepLoopOptions) {
    this.#config = config;
    this.#options = options;
    this.#admin = new Admin(config);
  }

  /** Begins and returns: `state` tells when the group is joined. While brokers are away it keeps trying. */
  start(): void {
    this.#running ??= this.#run();
  }

  /**
   * Fetches no more, lets the open step end and commit until the deadline (milliseconds from now) and
   * drops it then, leaves the group and closes all connections.
   */
  async stop(deadline: number): Promise<void> {
    this.#stopping = true;
    this.#stop.abort();
    this.#notify();
    const running = this.#running ?? Promise.resolve();
    await within(deadline, running);
    this.#validity.abort();
    await within(1_000, running);
    await this.#close();
  }

  /** Runs a step soon, even without work. */
  wake(): void {
    this.#woken = true;
    this.#notify();
  }

  /**
   * Stops reading a partition, until it is assigned in a new generation. Its queued work is dropped,
   * and its offsets stay where they are, so whoever gets it next begins at the same place.
   */
  halt(topic: string, partition: number, reason: string): void {
    const key = keyOf(topic, partition);
    if (this.#halted.has(key)) {
      return;
    }
    this.#halted.set(key, { topic, partition, reason });
    const queue = this.#queues.get(key);
    if (queue) {
      queue.halted = reason;
      queue.clear();
      this.#steer((consumer) => consumer.pause([{ topic, partitions: [partition] }]));
    }
    this.#config.logger.error('halted a partition', { topic, partition, reason });
  }

  state(): StepLoopState {
    const queues = [...this.#queues.values()];
    return {
      joined: this.#assigned !== undefined && this.#assigned === this.#join,
      generation: this.#join?.generation ?? -1,
      partitions: queues.map((queue) => ({
        topic: queue.topic,
        partition: queue.partition,
        position: queue.from,
        lagRecords: queue.lag,
        queuedBytes: queue.bytes,
      })),
      lastHeartbeatAt: this.#lastHeartbeatAt,
      queuedBytes: this.#queuedBytes(),
      steps: this.#steps,
      transactions: this.#transactions,
      rebuilds: this.#rebuilds,
      lastError:
        performance.now() - this.#faultAt < faultMemoryMilliseconds ? this.#lastError : null,
      halted: [...this.#halted.values()],
      fatal: this.#fatal,
    };
  }

  async #run(): Promise<void> {
    const ticks = setInterval(() => this.#watch(), 1_000);
    try {
      while (!this.#stopping && !this.#fatal) {
        try {
          await this.#turn();
        } catch (error) {
          await this.#recover(error);
        }
      }
      await this.#release();
    } catch (error) {
      this.#end(error as Error);
    } finally {
      clearInterval(ticks);
    }
    if (this.#fatal) {
      await this.#close();
      this.#options.onFatal(this.#fatal);
    }
  }

  /** One thing at a time, whichever is due. All state of the service is touched from here only. */
  async #turn(): Promise<void> {
    if (this.#crash) {
      const crash = this.#crash;
      this.#crash = undefined;
      await this.#dropConsumer();
      throw crash;
    }
    if (!this.#consumer) {
      await this.#consume();
    } else if (!this.#join) {
      await this.#waitFor(1_000);
    } else if (this.#assigned !== this.#join) {
      await this.#assign(this.#join);
    } else {
      await this.#gather();
      if (!this.#interrupted()) {
        await this.#step(this.#assigned);
      }
    }
  }

  #interrupted(): boolean {
    return (
      this.#stopping ||
      this.#crash !== undefined ||
      this.#assigned === undefined ||
      this.#assigned !== this.#join
    );
  }

  async #step(join: Join): Promise<void> {
    const { idleMilliseconds, limits } = this.#options;
    const validity = this.#validity.signal;
    const now = performance.now();
    const positions = this.#woken || now >= this.#positionsAt + idleMilliseconds;
    const queues = [...this.#queues.values()].filter((queue) => !queue.halted);
    const work = takeWork(queues, limits.stepBytes, this.#first++, positions);
    this.#woken = false;
    this.#steppedAt = now;
    if (positions) {
      this.#positionsAt = now;
    }
    if (this.#queuedBytes() === 0) {
      this.#dataSince = undefined;
    }
    this.#resume();
    const result = await this.#options.step(work, {
      generation: join.generation,
      signal: validity,
      halt: this.halt.bind(this),
      wake: this.wake.bind(this),
    });
    // What was computed for a former generation is dropped with it.
    if (this.#join !== join || validity.aborted) {
      return;
    }
    if (result) {
      await this.#commit(result, join);
      await result.committed?.();
    }
    this.#steps++;
  }

  async #commit({ messages, offsets }: StepResult, join: Join): Promise<void> {
    if (!this.#options.transactional) {
      if (messages.length > 0) {
        throw new Error('A step loop that is not transactional cannot send messages');
      }
      for (const offset of offsets) {
        this.#hints.set(keyOf(offset.topic, offset.partition), offset);
      }
      this.#hint();
      return;
    }
    if (messages.length === 0 && offsets.length === 0) {
      return;
    }
    await this.#producer!.commit(messages, offsets, {
      groupId: this.#options.groupId,
      generation: join.generation,
      memberId: join.memberId,
    });
    this.#transactions++;
  }

  /** Commits the newest offsets, one request at a time, without anybody waiting for it. */
  #hint(): void {
    if (this.#hinting || this.#hints.size === 0 || !this.#consumer) {
      return;
    }
    this.#hinting = true;
    const offsets = [...this.#hints.values()].map(({ topic, partition, offset, metadata }) => ({
      topic,
      partition,
      offset: offset.toString(),
      metadata: metadata ?? null,
    }));
    this.#hints.clear();
    void this.#consumer
      .commitOffsets(offsets)
      .catch((error: unknown) => {
        this.#config.logger.debug('offsets were not committed', { error: errorName(error) });
      })
      .finally(() => {
        this.#hinting = false;
        this.#hint();
      });
  }

  /** Waits until a step is due. */
  async #gather(): Promise<void> {
    const { limits, idleMilliseconds } = this.#options;
    while (!this.#interrupted() && !this.#woken) {
      const now = performance.now();
      const due = Math.min(
        (this.#dataSince ?? Infinity) + limits.stepMilliseconds,
        this.#steppedAt + idleMilliseconds,
      );
      if (now >= due || this.#queuedBytes() >= limits.stepBytes) {
        return;
      }
      await this.#waitFor(due - now);
    }
  }

  #queuedBytes(): number {
    let bytes = 0;
    for (const queue of this.#queues.values()) {
      bytes += queue.bytes;
    }
    return bytes;
  }

  /** Until something happens, at most this long. */
  #waitFor(milliseconds: number): Promise<void> {
    return new Promise((resolve) => {
      const timer = setTimeout(resolve, Math.max(1, milliseconds));
      this.#notify = () => {
        clearTimeout(timer);
        this.#notify = () => {};
        resolve();
      };
    });
  }

  /** Joins the group. The producer comes first, since it aborts what a former process left open. */
  async #consume(): Promise<void> {
    for (const topic of this.#options.topics) {
      await waitForTopic(
        this.#admin,
        this.#config,
        topic,
        () => {
          this.#config.logger.info('waiting for a topic', { topic });
          this.#options.onWaitingForTopic?.(topic);
        },
        this.#stop.signal,
      );
    }
    await this.#openProducer();
    const consumer = createClient(this.#config, { retries: 5, initialRetryTime: 100 }).consumer({
      groupId: this.#options.groupId,
      // Whoever comes back under this name has its partitions at once. Otherwise they'd wait
      // for the session of the process that was killed, half a minute by default.
      groupInstanceId: this.#options.instance,
      sessionTimeout: this.#options.sessionTimeout ?? 30_000,
      heartbeatInterval: Math.min(
        heartbeatMilliseconds,
        (this.#options.sessionTimeout ?? 30_000) / 4,
      ),
      rebalanceTimeout: rebalanceMilliseconds,
      maxWaitTimeInMs: fetchWaitMilliseconds,
      maxBytes: fetchBytes,
      maxBytesPerPartition: fetchBytesPerPartition,
      metadataMaxAge: this.#options.metadataMaxAge ?? 5_000,
      readUncommitted: false,
      allowAutoTopicCreation: false,
      // A crashed consumer is replaced by a new one: restarting itself it would keep stale members,
      // offsets and brokers.
      retry: { retries: 5, initialRetryTime: 100, restartOnFailure: () => Promise.resolve(false) },
    });
    this.#listen(consumer);
    try {
      await consumer.connect();
      await consumer.subscribe({ topics: [...this.#options.topics], fromBeginning: true });
    } catch (error) {
      void consumer.disconnect().catch(() => {});
      throw error;
    }
    this.#consumer = consumer;
    this.#silence = 0;
    // Not awaited: it resolves when the group is joined, which an instance that is slow to leave can delay by a minute.
    void consumer
      .run({
        autoCommit: false,
        eachBatchAutoResolve: true,
        eachBatch: ({ batch }) => {
          if (this.#consumer === consumer) {
            const { topic, partition, fetchedOffset, highWatermark, messages } = batch;
            const queue = this.#expecting(topic, partition, fetchedOffset);
            if (queue) {
              for (const message of messages) {
                queue.add(message.value!, BigInt(message.offset) + 1n);
              }
              queue.advance(BigInt(batch.lastOffset()) + 1n, BigInt(highWatermark));
              this.#enqueued(queue);
            }
          }
          return Promise.resolve();
        },
      })
      .catch((error: unknown) => this.#crashed(consumer, error as Error));
  }

  #listen(consumer: Consumer): void {
    consumer.on(consumer.events.GROUP_JOIN, ({ payload }) => {
      if (this.#consumer === consumer) {
        this.#joined(payload.generationId, payload.memberId, payload.memberAssignment);
      }
    });
    const heard = (): void => {
      if (this.#join) {
        this.#silence = 0;
      }
    };
    consumer.on(consumer.events.FETCH_START, heard);
    consumer.on(consumer.events.HEARTBEAT, () => {
      this.#lastHeartbeatAt = Date.now();
      heard();
    });
    consumer.on(consumer.events.END_BATCH_PROCESS, ({ payload }) => {
      // A fetch of nothing but markers and aborted records has no batch, yet it moves the position.
      if (this.#consumer === consumer && payload.batchSize === 0) {
        this.#expecting(payload.topic, payload.partition, payload.fetchedOffset)?.advance(
          BigInt(payload.lastOffset) + 1n,
          BigInt(payload.highWatermark),
        );
      }
    });
    consumer.on(consumer.events.CRASH, ({ payload }: ConsumerCrashEvent) => {
      this.#crashed(consumer, payload.error);
    });
  }

  /** In the same turn of the event loop in which the consumer begins to fetch for the new generation. */
  #joined(generation: number, memberId: string, assignment: Record<string, number[]>): void {
    if (this.#join?.generation === generation && this.#join.memberId !== memberId) {
      // Only a member of the same name takes a place without a new generation.
      this.#crash ??= this.#namesake();
    }
    this.#join = { generation, memberId, assignment: new Map(Object.entries(assignment)) };
    this.#lastHeartbeatAt = Date.now();
    this.#forget();
    this.#pauseAll(this.#join);
    this.#config.logger.info('joined the group', {
      groupId: this.#options.groupId,
      generation,
      assignment,
    });
    this.#notify();
  }

  #crashed(consumer: Consumer, error: Error): void {
    if (this.#consumer === consumer && !this.#stopping) {
      this.#crash ??= error;
      this.#forget();
      this.#notify();
    }
  }

  /** Nothing that is queued counts any more, nor what the open step makes. */
  #forget(): void {
    this.#validity.abort();
    this.#queues.clear();
    this.#hints.clear();
    this.#dataSince = undefined;
  }

  /**
   * The queue of a partition, if a fetch began where it should have. A fetch that was under way while
   * we moved the position didn't; then we say again where to go on, since kafkajs has followed it.
   */
  #expecting(topic: string, partition: number, fetchedOffset: string): PartitionQueue | undefined {
    const queue = this.#queues.get(keyOf(topic, partition));
    if (!queue || queue.halted) {
      return undefined;
    }
    if (!queue.follows(fetchedOffset)) {
      const offset = queue.expected.toString();
      this.#steer((consumer) => consumer.seek({ topic, partition, offset }));
      return undefined;
    }
    return queue;
  }

  #enqueued(queue: PartitionQueue): void {
    this.#dataSince ??= performance.now();
    if (queue.bytes >= this.#share(this.#options.limits.queueHighBytes)) {
      queue.paused = true;
      const { topic, partition } = queue;
      this.#steer((consumer) => consumer.pause([{ topic, partitions: [partition] }]));
    }
    this.#notify();
  }

  #resume(): void {
    const low = this.#share(this.#options.limits.queueLowBytes);
    for (const queue of this.#queues.values()) {
      if (queue.paused && !queue.halted && queue.bytes <= low) {
        queue.paused = false;
        const { topic, partition } = queue;
        this.#steer((consumer) => consumer.resume([{ topic, partitions: [partition] }]));
      }
    }
  }

  #share(bytes: number): number {
    return bytes / Math.max(1, this.#queues.size);
  }

  async #assign(join: Join): Promise<void> {
    if (this.#haltedIn !== join.generation) {
      this.#haltedIn = join.generation;
      this.#halted.clear();
    }
    await this.#release();
    await this.#openProducer();
    const current = (): boolean => this.#join === join && !this.#stopping && !this.#crash;
    const partitions = await this.#look(join);
    if (!current()) {
      return;
    }
    this.#validity = new AbortController();
    this.#held = true;
    const given = await this.#options.assigned(partitions, {
      signal: this.#validity.signal,
      halt: this.halt.bind(this),
    });
    const starts = new Map(
      (given ?? []).map(({ topic, partition, offset }) => [keyOf(topic, partition), offset]),
    );
    const planned = partitions.map((known) => {
      const start = starts.get(keyOf(known.topic, known.partition)) ?? known.committed?.offset;
      return { ...known, expected: start ?? known.earliest };
    });
    await this.#awaitEnds(planned, join);
    if (!current()) {
      return;
    }
    const ready: PartitionQueue[] = [];
    for (const { topic, partition, expected, earliest, latest } of planned) {
      if (this.#halted.has(keyOf(topic, partition))) {
        continue;
      }
      if (expected < earliest || expected > latest) {
        this.#lose({ topic, partition, expected, earliest, latest });
      } else {
        ready.push(new PartitionQueue(topic, partition, expected, latest));
      }
    }
    this.#queues = new Map(ready.map((queue) => [keyOf(queue.topic, queue.partition), queue]));
    this.#steppedAt = performance.now();
    this.#assigned = join;
    for (const { topic, partition, expected } of ready) {
      this.#steer((consumer) => {
        consumer.seek({ topic, partition, offset: expected.toString() });
        consumer.resume([{ topic, partitions: [partition] }]);
      });
    }
  }

  /** A leader that has just taken over may not know yet how far its partition is committed. */
  async #awaitEnds(
    planned: { topic: string; partition: number; expected: bigint; latest: bigint }[],
    join: Join,
  ): Promise<void> {
    for (let look = 0; look < 3 && planned.some((p) => p.expected > p.latest); look++) {
      await wait(300, this.#stop.signal);
      for (const { topic, partition, latest } of await this.#look(join)) {
        const plan = planned.find((p) => p.topic === topic && p.partition === partition);
        if (plan) {
          plan.latest = latest;
        }
      }
    }
  }

  /** @throws KafkaError TOPIC_MISSING */
  async #look({ assignment, generation }: Join): Promise<AssignedPartition[]> {
    const topics = [...assignment.keys()];
    const committed = new Map(
      (await this.#admin.committed(this.#options.groupId, topics)).map((offset) => [
        keyOf(offset.topic, offset.partition),
        offset,
      ]),
    );
    const found: AssignedPartition[] = [];
    for (const [topic, partitions] of assignment) {
      const offsets = new Map((await this.#admin.offsets(topic)).map((at) => [at.partition, at]));
      for (const partition of partitions) {
        const at = offsets.get(partition);
        if (!at) {
          throw missingTopic(`${topic}/${partition}`);
        }
        const key = keyOf(topic, partition);
        if (!this.#halted.has(key)) {
          const { earliest, latest } = at;
          const offset = committed.get(key);
          found.push({
            topic,
            partition,
            generation,
            committed: offset ? { offset: offset.offset, metadata: offset.metadata } : null,
            earliest,
            latest,
          });
        }
      }
    }
    return found;
  }

  #lose({ topic, partition, expected, earliest, latest }: LostRange): void {
    this.halt(
      topic,
      partition,
      expected < earliest
        ? `offsets ${expected} to ${earliest} were deleted before they were read: the topic's retention is too short for how far behind we are`
        : `offset ${expected} was to be read next, but the partition ends at ${latest}: the topic was deleted and created anew, or lost data`,
    );
    this.#options.lost?.({ topic, partition, expected, earliest, latest });
  }

  /** Tells the service to drop what it holds of the former assignment. */
  async #release(): Promise<void> {
    this.#validity.abort();
    this.#assigned = undefined;
    this.#queues.clear();
    this.#dataSince = undefined;
    if (this.#held) {
      this.#held = false;
      await this.#options.revoked();
    }
  }

  async #openProducer(): Promise<void> {
    if (!this.#options.transactional || (this.#producer && !this.#producer.broken)) {
      return;
    }
    const { transactionalId, transactionTimeout, groupId, topics, targets = [] } = this.#options;
    void this.#producer?.close();
    this.#producer = undefined;
    this.#producer = await TransactionalProducer.open(
      this.#config,
      {
        transactionalId,
        reach: {
          groupId,
          partitions: await this.#partitionsOf(targets),
          isPending: () => this.#admin.hasPendingOffsets(groupId, topics),
        },
        ...(transactionTimeout === undefined ? {} : { transactionTimeout }),
      },
      this.#stop.signal,
    );
  }

  /** Of those topics that exist: the others are about to be created. */
  async #partitionsOf(topics: readonly string[]): Promise<{ topic: string; partition: number }[]> {
    const found: { topic: string; partition: number }[] = [];
    for (const topic of topics) {
      const partitions = (await this.#admin.describeTopic(topic, 'Write'))?.partitions ?? 0;
      for (let partition = 0; partition < partitions; partition++) {
        found.push({ topic, partition });
      }
    }
    return found;
  }

  /** After an error: decides what to drop, and how long to wait before all begins anew. */
  async #recover(fault: unknown): Promise<void> {
    const { logger } = this.#config;
    if (this.#stopping && fault instanceof KafkaError && fault.code === 'STOPPED') {
      return;
    }
    if (fault instanceof HaltPartition) {
      this.halt(fault.topic, fault.partition, fault.message);
      return this.#rewind();
    }
    if (fault instanceof Error && (fault as { rejoin?: unknown }).rejoin === true) {
      this.#rebuilds++;
      logger.warn('leaving the group to join it anew', { error: fault.message });
      return this.#dropConsumer();
    }
    const fatal = this.#fatalMeaning(fault);
    if (fatal) {
      return this.#end(fatal);
    }
    const kind = errorKind(fault);
    this.#rebuilds++;
    this.#lastError = `${errorName(fault)}: ${fault instanceof Error ? fault.message : String(fault)}`;
    if (kind === 'generation') {
      this.#faultAt = performance.now();
      logger.info('the group moved on without us', { error: errorName(fault) });
      return this.#awaitGeneration();
    }
    const now = performance.now();
    this.#faults = now - this.#faultAt < faultMemoryMilliseconds ? this.#faults + 1 : 1;
    this.#faultAt = now;
    const retriable = kind === 'away' || kind === 'repeat' || isRetriable(fault);
    if (!retriable && this.#faults >= faultsToGiveUp) {
      return this.#end(
        new KafkaError(
          'GIVING_UP',
          `The same fault ${this.#faults} times in a row: ${this.#lastError}`,
          {
            cause: fault,
          },
        ),
      );
    }
    logger.warn('beginning again from what is committed', {
      error: this.#lastError,
      faults: this.#faults,
      ...(errorName(fault) === 'UNSTABLE_OFFSET_COMMIT' ? { advice: unstableAdvice } : {}),
      ...(retriable ? {} : { stack: fault instanceof Error ? fault.stack : undefined }),
    });
    await this.#rewind();
    await wait(backOff(this.#faults - 1, 100, 5_000), this.#stop.signal).catch(() => {});
  }

  /** An error that no repetition cures, in words that say what to do; or null. */
  #fatalMeaning(error: unknown): Error | null {
    const { transactionalId, groupId, topics } = this.#options;
    switch (errorKind(error)) {
      case 'fenced':
        // The brokers also raise the epoch of a producer whose transaction took too long.
        return this.#producer?.timedOut ? null : this.#namesake(error);
      case 'refused':
        return refused(this.#config, error, [
          ...topics.map((name) => ({ operation: 'Read', resource: 'topic', name }) as const),
          { operation: 'Read', resource: 'group', name: groupId },
          { operation: 'Write', resource: 'transactional-id', name: transactionalId },
        ]);
      case 'away':
      case 'generation':
      case 'repeat':
      case 'too-large':
      case 'unknown':
        break;
    }
    if (error instanceof Error && (error as { fatal?: unknown }).fatal === true) {
      return error;
    }
    const hopeless = error instanceof KafkaError && hopelessCodes.has(error.code);
    return hopeless ? error : null;
  }

  #namesake(cause?: unknown): KafkaError {
    const { groupId, transactionalId, instance } = this.#options;
    return new KafkaError(
      'FENCED',
      `Another process is ${instance} in group ${groupId}, or has the transactional id ${transactionalId}: give each instance a name of its own`,
      { cause },
    );
  }

  /** Same generation, but from what is committed. */
  async #rewind(): Promise<void> {
    if (this.#consumer && this.#assigned) {
      this.#pauseAll(this.#assigned);
    }
    await this.#release();
  }

  /** The consumer will notice by its next heartbeat, and join again. */
  async #awaitGeneration(): Promise<void> {
    const join = this.#assigned;
    await this.#rewind();
    if (join === this.#join) {
      this.#join = undefined;
    }
  }

  #pauseAll(join: Join): void {
    this.#steer((consumer) =>
      consumer.pause(
        [...join.assignment].map(([topic, partitions]) => ({ topic, partitions: [...partitions] })),
      ),
    );
  }

  /** A consumer that has just crashed refuses; it is about to be replaced, so that doesn't matter. */
  #steer(command: (consumer: Consumer) => void): void {
    try {
      if (this.#consumer) {
        command(this.#consumer);
      }
    } catch (error) {
      this.#config.logger.debug('the consumer has ended meanwhile', { error: errorName(error) });
    }
  }

  /** Replaces a consumer that neither fetches nor sends heartbeats, or waits for a generation that doesn't come. */
  #watch(): void {
    if (this.#consumer && ++this.#silence > silentTicks) {
      this.#silence = 0;
      this.#crashed(this.#consumer, new Error(`The consumer was silent for ${silentTicks} s`));
    }
  }

  async #dropConsumer(): Promise<void> {
    const consumer = this.#consumer;
    this.#consumer = undefined;
    this.#join = undefined;
    await this.#release();
    // It may wait for answers that never come.
    await within(5_000, consumer?.disconnect().catch(() => {}) ?? Promise.resolve());
  }

  #end(error: Error): void {
    this.#fatal ??= error;
    this.#config.logger.error('the step loop ends', { error: error.message });
  }

  async #close(): Promise<void> {
    const producer = this.#producer;
    this.#producer = undefined;
    await this.#dropConsumer();
    await Promise.all([producer?.close(), this.#admin.close()]);
  }
}

/** Our own is ended by our producer; one of an instance that doesn't come back isn't, if the brokers have forgotten it. */
const unstableAdvice =
  'an instance has a transaction open on these partitions; if this goes on for minutes, find it with kafka-transactions.sh find-hanging, and end it by starting that instance again or with kafka-transactions.sh abort';

function keyOf(topic: string, partition: number): string {
  return `${topic}/${partition}`;
}

function isRetriable(error: unknown): boolean {
  return error instanceof Error && (error as { retriable?: unknown }).retriable === true;
}
