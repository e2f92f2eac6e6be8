import { connect, type Kafka, type StepLoop, type StepLoopOptions } from '@anabranch/kafka';
import type { Metrics } from './create-metrics.ts';
import type { ServiceContext } from './launch-service.ts';
import type { Health, RunningService } from './lifecycle.ts';
import { type CommonConfig, kafkaConnection, kafkaWarnings } from './settings.ts';

/** What is a source's own of a step loop; the names and the session are the service's. */
export type SourceLoopOptions = Omit<
  StepLoopOptions,
  'groupId' | 'instance' | 'transactionalId' | 'sessionTimeout' | 'onFatal'
>;

/**
 * The step loops of a service, one for each source, as one service: a source that stands still, or
 * whose topic doesn't exist yet, delays no other.
 */
export class SourceLoops implements RunningService {
  readonly kafka: Kafka;
  readonly #service: string;
  readonly #config: CommonConfig;
  readonly #metrics: Metrics;
  readonly #fatal: (error: unknown) => void;
  readonly #alsoClose: () => Promise<void>;
  readonly #loops = new Map<string, StepLoop>();
  /** Per source and partition: when the newest record that was processed had been produced. */
  readonly #processed = new Map<string, Map<number, number>>();
  readonly #counted = new Map<string, { rebuilds: number; transactions: number }>();

  private constructor(
    service: string,
    kafka: Kafka,
    { config, metrics, fatal }: ServiceContext<CommonConfig>,
    alsoClose: () => Promise<void>,
  ) {
    this.#service = service;
    this.kafka = kafka;
    this.#config = config;
    this.#metrics = metrics;
    this.#fatal = fatal;
    this.#alsoClose = alsoClose;
    metrics.page.beforeScrape(() => {
      this.#measure();
    });
  }

  /**
   * Waits until Kafka answers.
   * @param service as it is called in groups and transactional ids
   * @param alsoClose ends what else the loops use: called once they have stopped
   */
  static async open(
    service: string,
    context: ServiceContext<CommonConfig>,
    alsoClose: () => Promise<void> = () => Promise.resolve(),
  ): Promise<SourceLoops> {
    const { config, log: logger, signal } = context;
    const clientId = `anabranch.${service}.${config.INSTANCE}`;
    for (const warning of kafkaWarnings(config)) {
      logger.warn(warning);
    }
    const kafka = await connect({ ...kafkaConnection(config), clientId, logger }, signal);
    return new SourceLoops(service, kafka, context, alsoClose);
  }

  start(source: string, options: SourceLoopOptions): void {
    const { INSTANCE: instance, SESSION_SECONDS: sessionSeconds } = this.#config;
    const loop = this.kafka.stepLoop({
      ...options,
      groupId: `anabranch.${this.#service}.${source}`,
      instance,
      transactionalId: `anabranch.${this.#service}.${source}.${instance}`,
      sessionTimeout: sessionSeconds * 1000,
      onFatal: this.#fatal,
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

  ready(): Health {
    const states = [...this.#loops].map(([source, loop]) => [source, loop.state()] as const);
    return {
      ok: states.every(([, { joined }]) => joined),
      details: Object.fromEntries(
        states.map(([source, { joined, generation, partitions, lastError, halted }]) => [
          source,
          {
            joined,
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
    const dead = [...this.#loops].filter(([, loop]) => loop.state().fatal !== null);
    return {
      ok: dead.length === 0,
      details: Object.fromEntries(
        dead.map(([source, loop]) => [source, loop.state().fatal?.message]),
      ),
    };
  }

  async stop(deadlineMilliseconds: number): Promise<void> {
    await Promise.all([...this.#loops.values()].map((loop) => loop.stop(deadlineMilliseconds)));
    await Promise.all([this.kafka.close(), this.#alsoClose()]);
  }

  #measure(): void {
    const { lagRecords, lagSeconds, haltedPartitions, rebuildsTotal, transactionsTotal } =
      this.#metrics;
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
  }
}
