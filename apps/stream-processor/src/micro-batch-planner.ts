import type { SourcePlan } from '@anabranch/compute';
import { microBatch } from '@anabranch/cost';
import { latencyGoal } from '@anabranch/definition';
import type { CostAccount, Metrics } from '@anabranch/service';

/** What the step loop looks at before each step. */
export interface MicroBatchLimits {
  stepMilliseconds: number;
  stepBytes: number;
}

const planMilliseconds = 1000;
/** Smaller ones would be fetched one by one. */
const leastBytes = 65_536;
/** A change by less is followed, and not worth a word. */
const noteworthy = 0.25;

/** Keeps micro-batches as large as the latency goal of a source's tables allows. */
export class MicroBatchPlanner {
  readonly #source: string;
  readonly #goal: number | null;
  readonly #limits: MicroBatchLimits;
  readonly #mostBytes: number;
  readonly #account: CostAccount;
  readonly #metrics: Metrics;
  #plannedAt = 0;
  #told: MicroBatchLimits | null = null;

  /** @param limits as they are without a goal; its bytes are the most that there is memory for */
  constructor(plan: SourcePlan, limits: MicroBatchLimits, account: CostAccount, metrics: Metrics) {
    this.#source = plan.source.name;
    this.#goal = latencyGoal(plan.tables.map(({ table }) => table));
    this.#limits = limits;
    this.#mostBytes = limits.stepBytes;
    this.#account = account;
    this.#metrics = metrics;
  }

  /** After a step; does something once a second. */
  plan(): void {
    const now = performance.now();
    if (this.#goal === null || now - this.#plannedAt < planMilliseconds) {
      return;
    }
    const { model } = this.#account;
    const rate = this.#account.rate();
    const planned = microBatch(model, this.#goal, rate, this.#mostBytes);
    if (planned === null) {
      return;
    }
    this.#plannedAt = now;
    this.#limits.stepMilliseconds = planned.gatherMilliseconds;
    this.#limits.stepBytes = Math.max(leastBytes, planned.bytes);
    this.#metrics.gatherSeconds.set({ source: this.#source }, planned.gatherMilliseconds / 1000);
    if (this.#differs()) {
      this.#told = { ...this.#limits };
      const { stepMilliseconds, stepBytes } = this.#limits;
      this.#account.decide(
        'micro-batch',
        `gather ${stepMilliseconds} ms, at most ${stepBytes} bytes`,
        {
          goalMilliseconds: this.#goal,
          recordsPerSecond: Math.round(rate),
          predictedSeconds: planned.predictedSeconds,
          mostRecords: planned.records,
          samples: model.samples,
        },
      );
    }
  }

  #differs(): boolean {
    const told = this.#told;
    return (
      told === null ||
      (['stepMilliseconds', 'stepBytes'] as const).some(
        (limit) => Math.abs(this.#limits[limit] / told[limit] - 1) > noteworthy,
      )
    );
  }
}
