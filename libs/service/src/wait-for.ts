import { ServiceError } from './errors.ts';
import type { Log } from './log.ts';
import { messageOf } from './printable.ts';

export interface WaitOptions {
  readonly log: Log;
  /** Gives up, and rejects with the signal's reason. */
  readonly signal: AbortSignal;
  /** Says that waiting can't mend this error: it is thrown at once. A ServiceError always is. */
  readonly isFinal?: (error: unknown) => boolean;
  /** Is kept up to date with what is waited for, for a health page. */
  readonly waits?: Map<string, string>;
  /** First pause, in milliseconds. Default 250. */
  readonly firstPause?: number;
  /** Longest pause, in milliseconds. Default 10 000. */
  readonly longestPause?: number;
}

/**
 * Tries until it succeeds, for as long as it takes: services start in any order, and what they need
 * may be away for hours. Pauses double, with a random quarter less so that many instances don't
 * come back in step.
 * @param what completes "waiting for …"
 */
export async function waitFor<T>(
  what: string,
  attempt: (signal: AbortSignal) => Promise<T>,
  options: WaitOptions,
): Promise<T> {
  const { log, signal, waits, firstPause = 250, longestPause = 10_000 } = options;
  const key = `waiting for ${what}`;
  const begun = performance.now();
  let failed = false;
  waits?.set(what, 'the first attempt has not ended yet');
  try {
    for (let longest = firstPause; ; longest = Math.min(longest * 2, longestPause)) {
      signal.throwIfAborted();
      try {
        const result = await unlessAborted(attempt(signal), signal);
        if (failed) {
          log.flush(key);
          const seconds = Math.round(performance.now() - begun) / 1000;
          log.info(`no longer waiting for ${what}`, { seconds });
        }
        return result;
      } catch (error) {
        if (signal.aborted || error instanceof ServiceError || options.isFinal?.(error)) {
          throw signal.aborted ? signal.reason : error;
        }
        failed = true;
        const reason = messageOf(error);
        waits?.set(what, reason);
        log.repeat(key, 'warn', key, { reason });
      }
      await pause(longest * (0.75 + Math.random() / 4), signal);
    }
  } finally {
    waits?.delete(what);
    log.flush(key);
  }
}

async function pause(milliseconds: number, signal: AbortSignal): Promise<void> {
  const { promise, resolve } = Promise.withResolvers<undefined>();
  const timer = setTimeout(resolve, milliseconds, undefined);
  try {
    await unlessAborted(promise, signal);
  } finally {
    clearTimeout(timer);
  }
}

/** Doesn't wait for work that fails to notice the signal. */
async function unlessAborted<T>(work: Promise<T>, signal: AbortSignal): Promise<T> {
  const { promise: aborted, reject } = Promise.withResolvers<never>();
  const onAbort = () => {
    reject(signal.reason as Error);
  };
  signal.addEventListener('abort', onAbort, { once: true });
  try {
    return await Promise.race([work, aborted]);
  } finally {
    signal.removeEventListener('abort', onAbort);
  }
}
