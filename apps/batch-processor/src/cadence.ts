import { latestStart } from '@anabranch/cost';
import type { BatchCadence } from '@anabranch/definition';
import { Cron } from 'croner';

export type Trigger = 'every' | 'cron' | 'backlog' | 'fresh_within';

/** Records that no run has taken yet. */
export interface Waiting {
  /** When the oldest one had come, in milliseconds since 1970. */
  readonly since: number;
  /** Of a run over them; null: not known yet. */
  readonly predictedSeconds: number | null;
}

/** Decides when a run begins. */
export class Cadence {
  readonly #cadence: BatchCadence;
  readonly #cron: Cron | null;
  #since: number;
  #nextCron: number | null;

  /** @param now milliseconds since 1970 */
  constructor(cadence: BatchCadence, now: number) {
    this.#cadence = cadence;
    this.#cron = cadence.cron === null ? null : new Cron(cadence.cron, { timezone: 'UTC' });
    this.#since = now;
    this.#nextCron = this.#cronAfter(now);
  }

  /** Why a run should begin now; null: it shouldn't. */
  due(now: number, backlogBytes: number, waiting: Waiting | null = null): Trigger | null {
    const { every, backlogBytes: limit, freshWithin } = this.#cadence;
    if (now < this.#since) {
      // The clock was set back: without this, nothing would be due until it has caught up.
      this.begun(now);
    }
    if (limit !== null && backlogBytes >= limit) {
      return 'backlog';
    }
    if (this.#nextCron !== null && now >= this.#nextCron) {
      return 'cron';
    }
    if (
      freshWithin !== null &&
      waiting !== null &&
      (now < waiting.since ||
        now >= latestStart(waiting.since, freshWithin, waiting.predictedSeconds))
    ) {
      return 'fresh_within';
    }
    return every !== null && now - this.#since >= every ? 'every' : null;
  }

  /** A run has begun, or there was nothing to run over: the interval counts from now. */
  begun(now: number): void {
    this.#since = now;
    this.#nextCron = this.#cronAfter(now);
  }

  #cronAfter(now: number): number | null {
    return this.#cron?.nextRun(new Date(now))?.getTime() ?? null;
  }
}
