import {
  connect,
  type Kafka,
  KafkaError,
  type StepLoop,
  type StepLoopOptions,
} from '@anabranch/kafka';
import type { Metrics } from './create-metrics.ts';
import type { ServiceContext } from './launch-service.ts';
import type { Health, RunningService } from './lifecycle.ts';
import type { Log } from './log.ts';
import { type CommonConfig, kafkaConnection, kafkaWarnings } from './settings.ts';

/** What is a source's own of a step loop; the names and the session are the service's. */
export type SourceLoopOptions = Omit<
  StepLoopOptions,
  'groupId' | 'instance' | 'transactionalId' | 'sessionTimeout' | 'onFatal'
>;

/**
 * The step loops of a service, one for each source, as one service: a source that stands still, whose
 * topic doesn't exist yet, or that has stopped for good, delays no other. The service ends when all have
 * stopped.
 */
export class SourceLoops implements RunningService {
  readonly kafka: Kafka;
  readonly #service: string;
  readonly #config: CommonConfig;
  readonly #metrics: Metrics;
  readonly #log: Log;
  readonly #fatal: (error: unknown) => void;
  /** How many sources there are. */
  readonly #sources: number;
  readonly #alsoClose: () => Promise<void>;
  readonly #loops = new Map<string, StepLoop>();
  /** Topics that sources wait for before they can begin. */
  readonly #waiting = new Map<string, string>();
  /** Sources whose loop has ended for good, and why. */
  readonly #stopped = new Map<string, Error>();
  /** Per source and partition: when the newest record that was processed had been produced. */
  readonly #processed = new Map<string, Map<number, number>>();
  readonly #counted = new Map<string, { rebuilds: number; transactions: number }>();

  private constructor(
    service: string,
    kafka: Kafka,
    { config, log, metrics, fatal }: ServiceContext<CommonConfig>,
    sources: number,
    alsoClose: () => Promise<void>,
  ) {
    this.#service = service;
    this.kafka = kafka;
    this.#config = config;
    this.#metrics = metrics;
    this.#log = log;
    this.#sources = sources;
    this.#fatal = fatal;
    this.#alsoClose = alsoClose;
    metrics.page.beforeScrape(() => {
      this.#measure();
    });
  }

  /**
   * Waits until Kafka answers.
   * @param service as it is called in groups and transactional ids
   * @param sources how many will be started
   * @param alsoClose ends what else the loops use: called once they have stopped
   */
  static async open(
    service: string,
    context: ServiceContext<CommonConfig>,
    sources: number,
    alsoClose: () => Promise<void> = () => Promise.resolve(),
  ): Promise<SourceLoops> {
    const { config, log: logger, signal } = context;
    const clientId = `anabranch.${service}.${config.INSTANCE}`;
    for (const warning of kafkaWarnings(config)) {
      logger.warn(warning);
    }
    const kafka = await connect({ ...kafkaConnection(config), clientId, logger }, signal);
    return new SourceLoops(service, kafka, context, sources, alsoClose);
  }

  start(source: string, options: SourceLoopOptions): void {
    const { INSTANCE: instance, SESSION_SECONDS: sessionSeconds } = this.#config;
    const loop = this.kafka.stepLoop({
      ...options,
      groupId: `anabranch.${this.#service}.${source}`,
      instance,
      transactionalId: `anabranch.${this.#service}.${source}.${instance}`,
      sessionTimeout: sessionSeconds * 1000,
      onWaitingForTopic: (topic) => {
        this.#waiting.set(source, topic);
        options.onWaitingForTopic?.(topic);
      },
      onFatal: (error) => {
        this.#end(source, error);
      },
    });
    this.#loops.set(source, loop);
    this.#processed.set(source, new Map());
    loop.start();
  }

  /** @param producedAt milliseconds since 1970; 0: no record */
  processed(source: string, partition: number, producedAt: number): void {
    const times = this.#processed.get(source);
    // The branches come at their own times: what the slower one brings isn't the newest.
    if (times !== undefined && producedAt > (times.get(partition) ?? 0)) {
      times.set(partition, producedAt);
    }
  }

  /** Only where another process has our name is it the same for all sources. */
  #end(source: string, error: Error): void {
    this.#stopped.set(source, error);
    const isNamesake = error instanceof KafkaError && error.code === 'FENCED';
    if (isNamesake || this.#stopped.size >= this.#sources) {
      this.#fatal(error);
    } else {
      this.#log.error(
        'a source has stopped, and the others go on: mend the cause and restart the service',
        { source, error },
      );
    }
  }

  /**
   * A source that waits for its topic, beside others that are at work, is no reason to hold up a roll-out;
   * one that has stopped is.
   */
  ready(): Health {
    const states = [...this.#loops].map(([source, loop]) => [source, loop.state()] as const);
    const joined = states.filter(([, state]) => state.joined).map(([source]) => source);
    for (const source of joined) {
      this.#waiting.delete(source);
    }
    return {
      ok:
        joined.length > 0 &&
        joined.length + this.#waiting.size === states.length &&
        this.#stopped.size === 0,
      details: Object.fromEntries(
        states.map(([source, { joined: isJoined, generation, partitions, lastError, halted }]) => [
          source,
          {
            joined: isJoined,
            ...(this.#waiting.has(source) && { waitingForTopic: this.#waiting.get(source) }),
            ...(this.#stopped.has(source) && { stopped: this.#stopped.get(source)?.message }),
            generation,
            partitions: partitions.length,
            lag: partitions.reduce((sum, { lagRecords }) => sum + Number(lagRecords), 0),
            halted: halted.map(({ topic, partition, reason }) => ({ topic, partition, reason })),
            lastError,
          },
        ]),
      ),
    };
  }

  live(): Health {
    // A restart would stop the others too, and may be no remedy: whoever looks decides.
    return {
      ok: this.#stopped.size < this.#sources,
      details: Object.fromEntries(
        [...this.#stopped].map(([source, { message }]) => [source, message]),
      ),
    };
  }

  async stop(deadlineMilliseconds: number): Promise<void> {
    await Promise.all([...this.#loops.values()].map((loop) => loop.stop(deadlineMilliseconds)));
    await Promise.all([this.kafka.close(), this.#alsoClose()]);
  }

  #measure(): void {
    const {
      lagRecords,
      lagSeconds,
      haltedPartitions,
      stoppedSources,
      rebuildsTotal,
      transactionsTotal,
    } = this.#metrics;
    lagRecords.reset();
    lagSeconds.reset();
    let halted = 0;
    for (const [source, loop] of this.#loops) {
      const state = loop.state();
      halted += state.halted.length;
      for (const { topic, partition, lagRecords: lag } of state.partitions) {
        lagRecords.set({ source, partition, topic }, Number(lag));
        const newest = this.#processed.get(source)?.get(partition);
        const age = newest === undefined ? 0 : Math.max(0, Date.now() - newest) / 1000;
        lagSeconds.set({ source, partition }, lag > 0n ? age : 0);
      }
      const before = this.#counted.get(source) ?? { rebuilds: 0, transactions: 0 };
      rebuildsTotal.inc({}, state.rebuilds - before.rebuilds);
      transactionsTotal.inc({ outcome: 'committed' }, state.transactions - before.transactions);
      this.#counted.set(source, { rebuilds: state.rebuilds, transactions: state.transactions });
    }
    haltedPartitions.set({}, halted);
    stoppedSources.set({}, this.#stopped.size);
  }
}
