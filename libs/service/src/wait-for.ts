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
  const begun = performance.now();
  for (let pause = firstPause; ; pause = Math.min(pause * 2, longestPause)) {
    signal.throwIfAborted();
    try {
      const result = await unlessAborted(attempt(signal), signal);
      if (waits?.delete(what)) {
        const seconds = Math.round(performance.now() - begun) / 1000;
        log.info(`no longer waiting for ${what}`, { seconds });
      }
      return result;
    } catch (error) {
      if (signal.aborted || error instanceof ServiceError || options.isFinal?.(error)) {
        waits?.delete(what);
        throw signal.aborted ? signal.reason : error;
      }
      const reason = messageOf(error);
      waits?.set(what, reason);
      log.repeat(`waiting for ${what}`, 'warn', `waiting for ${what}`, { reason });
    }
    await unlessAborted(
      new Promise((resolve) => setTimeout(resolve, pause * (0.75 + Math.random() / 4))),
      signal,
    );
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
