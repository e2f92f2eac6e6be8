import type { StepSeconds } from './create-metrics.ts';
import { stages } from './metrics.ts';
import type { Stage } from './metrics.ts';

/** What a step took. Seconds are of the clock; stages that overlap each count in full. */
export interface StageCost extends Readonly<Record<Stage, number>> {
  readonly service: string;
  readonly bytes: number;
  readonly records: number;
  readonly rows: number;
}

/** Measures the stages of one step after another. */
export class StageClock {
  readonly #service: string;
  readonly #stepSeconds: StepSeconds | undefined;
  #seconds: Record<Stage, number> = { load: 0, preprocess: 0, process: 0, store: 0 };
  #counts = { bytes: 0, records: 0, rows: 0 };

  /** @param stepSeconds is told the stages of each step that ends */
  constructor(service: string, stepSeconds?: StepSeconds) {
    this.#service = service;
    this.#stepSeconds = stepSeconds;
  }

  /** Runs a stage, or a part of one; what it takes counts even where it fails. */
  async stage<T>(stage: Stage, work: () => Promise<T>): Promise<T> {
    const begun = performance.now();
    try {
      return await work();
    } finally {
      this.#seconds[stage] += (performance.now() - begun) / 1000;
    }
  }

  /** Adds seconds that were measured elsewhere. */
  add(seconds: Readonly<Partial<Record<Stage, number>>>): void {
    for (const stage of stages) {
      this.#seconds[stage] += seconds[stage] ?? 0;
    }
  }

  count(counts: { readonly bytes?: number; readonly records?: number; readonly rows?: number }) {
    this.#counts.bytes += counts.bytes ?? 0;
    this.#counts.records += counts.records ?? 0;
    this.#counts.rows += counts.rows ?? 0;
  }

  /** The step so far. */
  cost(): StageCost {
    return { service: this.#service, ...this.#counts, ...this.#seconds };
  }

  /** Ends the step: gives its cost, tells the metric, and begins the next one at zero. */
  end(): StageCost {
    const cost = this.cost();
    for (const stage of stages) {
      this.#stepSeconds?.observe({ stage }, this.#seconds[stage]);
    }
    this.#seconds = { load: 0, preprocess: 0, process: 0, store: 0 };
    this.#counts = { bytes: 0, records: 0, rows: 0 };
    return cost;
  }
}
