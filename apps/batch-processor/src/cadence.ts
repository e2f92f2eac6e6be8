import type { BatchCadence } from '@anabranch/definition';
import { Cron } from 'croner';

export type Trigger = 'every' | 'cron' | 'backlog';

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
  due(now: number, backlogBytes: number): Trigger | null {
    const { every, backlogBytes: limit } = this.#cadence;
    if (limit !== null && backlogBytes >= limit) {
      return 'backlog';
    }
    if (this.#nextCron !== null && now >= this.#nextCron) {
      return 'cron';
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
