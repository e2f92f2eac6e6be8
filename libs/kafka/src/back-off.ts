import { setTimeout as sleep } from 'node:timers/promises';
import { KafkaError } from './errors.ts';

/**
 * How long to wait before try number `attempt` (from 0): doubling from `first` to `longest`
 * milliseconds, less up to half at random, so that instances don't come back in step.
 */
export function backOff(attempt: number, first = 100, longest = 10_000): number {
  const full = Math.min(longest, first * 2 ** Math.min(attempt, 30));
  return full * (1 - Math.random() / 2);
}

/** Resolves with the promise, or after this long without it. */
export async function within(milliseconds: number, promise: Promise<unknown>): Promise<void> {
  const timer = new AbortController();
  await Promise.race([promise, wait(milliseconds, timer.signal).catch(() => {})]);
  timer.abort();
}

/** @throws KafkaError STOPPED as soon as the signal is aborted. */
export async function wait(milliseconds: number, signal?: AbortSignal): Promise<void> {
  try {
    await sleep(milliseconds, undefined, signal ? { signal } : {});
  } catch (error) {
    throw new KafkaError('STOPPED', 'A wait for Kafka was stopped', { cause: error });
  }
}
