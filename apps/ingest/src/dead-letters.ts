import type { Classified } from '@anabranch/compute';
import type { DeadLetter } from '@anabranch/contract';
import { readHeaders, walk } from '@anabranch/kafka';
import type { Lines } from './lines.ts';

/**
 * The dead letters of one partition's share of a step, with the bytes as they were produced: they
 * are read a second time, which costs nothing where there are none.
 */
export function deadLetters(
  batches: readonly Buffer[],
  lines: Lines,
  { exceptions, reasons }: Pick<Classified, 'exceptions' | 'reasons'>,
): DeadLetter[] {
  const why = new Map<number, { code: string; reason: string }>();
  for (const { offset, code, reason } of lines.refused) {
    why.set(Number(offset), { code, reason });
  }
  const { positions, verdicts } = exceptions;
  for (let i = 0; i < positions.length; i++) {
    const verdict = verdicts[i] ?? 0;
    if (verdict < 0) {
      const { code, detail } = reasons[-1 - verdict] ?? {
        code: 'invalid',
        detail: 'The record is invalid.',
      };
      why.set(lines.offsets[positions[i] ?? 0] ?? -1, { code, reason: detail });
    }
  }
  if (why.size === 0) {
    return [];
  }
  const letters: DeadLetter[] = [];
  const copy = (bytes: Buffer, start: number, end: number): Buffer | null =>
    start < 0 ? null : Buffer.from(bytes.subarray(start, end));
  for (const batch of batches) {
    walk(
      batch,
      (
        bytes,
        offset,
        timestamp,
        valueStart,
        valueEnd,
        keyStart,
        keyEnd,
        headersStart,
        headersEnd,
      ) => {
        const reason = why.get(offset);
        if (reason !== undefined) {
          letters.push({
            ...reason,
            offset: BigInt(offset),
            timestamp: BigInt(timestamp),
            table: null,
            key: copy(bytes, keyStart, keyEnd),
            value: copy(bytes, valueStart, valueEnd),
            headers: readHeaders(bytes, headersStart, headersEnd).map(({ key: name, value }) => ({
              name,
              value: value === null ? null : Buffer.from(value),
            })),
          });
          why.delete(offset);
        }
      },
    );
  }
  return letters;
}
