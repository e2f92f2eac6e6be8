import { recordAt } from '@anabranch/kafka';
import { parseTraceparent, type SpanContext, traceHeader } from '@anabranch/service';
import type { Lines } from './lines.ts';

/**
 * What its producer says of the trace in which the first record of a block was made. Not of all records:
 * that would be a look into the headers of each. The batch is read a second time, so ask for the blocks
 * that are traced only.
 */
export function producerLinks(
  batches: readonly Buffer[],
  { count, offsets }: Pick<Lines, 'count' | 'offsets'>,
): SpanContext[] {
  const first = BigInt(offsets[0] ?? 0);
  const batch = batches.findLast((candidate) => candidate.readBigInt64BE(0) <= first);
  if (count === 0 || batch === undefined) {
    return [];
  }
  try {
    const header = recordAt(batch, first)?.headers.find(({ key }) => key === traceHeader);
    const link = parseTraceparent(header?.value?.toString('latin1') ?? '');
    return link === null ? [] : [{ traceId: link.traceId, spanId: link.spanId }];
  } catch {
    // A header that can't be read: its record still counts.
    return [];
  }
}
