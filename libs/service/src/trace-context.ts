import { hash } from 'node:crypto';
import { visitHeaders } from '@anabranch/kafka';

/** A span as others refer to it; ids in lower-case hex, 32 and 16 digits. */
export interface SpanContext {
  readonly traceId: string;
  readonly spanId: string;
}

/** The W3C's header, here of a Kafka message: of a block, of a part of a partial, of a producer's record. */
export const traceHeader = 'traceparent';
const traceHeaderBytes = Buffer.from(traceHeader);

/**
 * The trace of a range that ingest commits, and its first span. A hash and no chance: whoever does the
 * range again gives it the same ids, so a replay shows as the same trace.
 * @param from first source offset of the range, which is not empty
 */
export function rangeContext(source: string, partition: number, from: bigint): SpanContext {
  const digits = hash('sha256', `anabranch ${source} ${partition} ${from}`);
  return { traceId: digits.slice(0, 32), spanId: digits.slice(32, 48) };
}

/** A span under another one; `what` tells it from its siblings. */
export function childContext({ traceId, spanId }: SpanContext, what: string): SpanContext {
  return { traceId, spanId: hash('sha256', `${traceId} ${spanId} ${what}`).slice(0, 16) };
}

/**
 * By the last 56 bits of the trace id, as OpenTelemetry's samplers decide: one behind ours with a
 * smaller ratio keeps a subset.
 * @param ratio 0 to 1
 */
export function isSampled(traceId: string, ratio: number): boolean {
  return Number.parseInt(traceId.slice(-14), 16) >= (1 - ratio) * 2 ** 56;
}

/** The header's value, of a span that is sampled: 55 characters. */
export function formatTraceparent({ traceId, spanId }: SpanContext): string {
  return `00-${traceId}-${spanId}-01`;
}

/** null when it is none, or of a version with another form. */
export function parseTraceparent(text: string): (SpanContext & { sampled: boolean }) | null {
  const match =
    /^(?!ff|00.{53}.)[0-9a-f]{2}-([0-9a-f]{32})-([0-9a-f]{16})-([0-9a-f]{2})(-.*)?$/.exec(text);
  const [, traceId = '', spanId = '', flags = ''] = match ?? [];
  if (!/[^0]/.test(traceId) || !/[^0]/.test(spanId)) {
    return null;
  }
  return { traceId, spanId, sampled: (Number.parseInt(flags, 16) & 1) === 1 };
}

/** Longer than any that the standard foresees: whatever it is, it isn't looked into. */
const longestTraceparent = 256;

/**
 * The traceparent of a message between the positions that a RecordVisitor gets; undefined without one.
 * Never throws: a header that can't be read is no reason to stop at a record that can.
 */
export function readTraceparent(bytes: Buffer, start: number, end: number): string | undefined {
  let found: string | undefined;
  try {
    visitHeaders(bytes, start, end, (_, keyStart, keyEnd, valueStart, valueEnd) => {
      if (
        found === undefined &&
        keyEnd - keyStart === traceHeaderBytes.length &&
        valueEnd - valueStart <= longestTraceparent &&
        valueStart >= 0 &&
        bytes.compare(traceHeaderBytes, 0, traceHeaderBytes.length, keyStart, keyEnd) === 0
      ) {
        found = bytes.toString('latin1', valueStart, valueEnd);
      }
    });
  } catch {
    return undefined;
  }
  return found;
}
