const microsecondsPerMillisecond = 1000n;

/**
 * The watermark in microseconds since 1970: the largest event time seen minus the disorder that the
 * source is allowed.
 * @param highest largest event time seen, clamped to now plus the allowed skew, in microseconds
 * @param disorder in milliseconds
 */
export function watermark(highest: bigint | null, disorder: number): bigint | null {
  return highest === null ? null : highest - BigInt(disorder) * microsecondsPerMillisecond;
}

/**
 * The largest event time that may be taken at its word, in microseconds: one record with a clock
 * that runs ahead must not make all others late.
 * @param now in milliseconds
 * @param maxSkew in milliseconds
 */
export function ceiling(now: number, maxSkew: number): bigint {
  return BigInt(now + maxSkew) * microsecondsPerMillisecond;
}

/**
 * The largest event time seen of a partition that has been silent for the idle timeout: it follows
 * the clock at that distance, so that windows become final although nothing arrives any more.
 * @param now in milliseconds
 * @param idleTimeout in milliseconds
 */
export function highestWhenIdle(highest: bigint | null, now: number, idleTimeout: number): bigint {
  const followed = BigInt(now - idleTimeout) * microsecondsPerMillisecond;
  return highest === null || followed > highest ? followed : highest;
}

/** The later of two watermarks, where null is before all others. */
export function later(a: bigint | null, b: bigint | null): bigint | null {
  if (a === null || b === null) {
    return a ?? b;
  }
  return a > b ? a : b;
}
