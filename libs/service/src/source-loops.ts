import type { StepLoop } from '@anabranch/kafka';
import type { Metrics } from './create-metrics.ts';
import type { Health, RunningService } from './lifecycle.ts';

/**
 * The step loops of a service, one for each source, as one service: a source that stands still, or
 * whose topic doesn't exist yet, delays no other.
 */
export class SourceLoops implements RunningService {
  readonly #loops = new Map<string, StepLoop>();
  readonly #metrics: Metrics;
  readonly #close: () => Promise<void>;
  /** Per source and partition: when the newest record that was processed had been produced. */
  readonly #processed = new Map<string, Map<number, number>>();
  readonly #counted = new Map<string, { rebuilds: number; transactions: number }>();

  /** @param close ends what the loops use: called once they have stopped */
  constructor(metrics: Metrics, close: () => Promise<void>) {
    this.#metrics = metrics;
    this.#close = close;
    metrics.page.beforeScrape(() => {
      this.#measure();
    });
  }

  start(source: string, loop: StepLoop): void {
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
    await this.#close();
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
