import type { Classified } from '@anabranch/compute';
import type { DeadLetter } from '@anabranch/contract';
import { readHeaders, walk } from '@anabranch/kafka';
import type { Lines } from './lines.ts';

/**
 * A message on the internal topics can't be larger than 17 MiB, while the source's topic may allow
 * more, or a compressed batch hold more.
 */
const maxLetterBytes = 16 * 1024 * 1024;

/** The last millisecond that a `Date` knows, and Postgres too. */
const latestTimestamp = 8.64e15;

/** Offset, code and reason of each record in these lines that is dead. */
export function deathsOf(
  lines: Lines,
  { exceptions, reasons }: Pick<Classified, 'exceptions' | 'reasons'>,
): Map<number, Pick<DeadLetter, 'code' | 'reason'>> {
  const deaths = new Map<number, Pick<DeadLetter, 'code' | 'reason'>>();
  for (const { offset, code, reason } of lines.refused) {
    deaths.set(Number(offset), { code, reason });
  }
  const { positions, verdicts } = exceptions;
  for (let i = 0; i < positions.length; i++) {
    const verdict = verdicts[i] ?? 0;
    if (verdict < 0) {
      const { code, detail } = reasons[-1 - verdict] ?? {
        code: 'invalid',
        detail: 'The record is invalid.',
      };
      deaths.set(lines.offsets[positions[i] ?? 0] ?? -1, { code, reason: detail });
    }
  }
  return deaths;
}

/**
 * The dead letters of one partition's share of a step, in the order of their offsets, with the bytes
 * as they were produced: they are read a second time, which costs nothing where there are none.
 */
export function deadLetters(
  batches: readonly Buffer[],
  deaths: ReadonlyMap<number, Pick<DeadLetter, 'code' | 'reason'>>,
): DeadLetter[] {
  const letters: DeadLetter[] = [];
  if (deaths.size === 0) {
    return letters;
  }
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
        const death = deaths.get(offset);
        if (death === undefined) {
          return;
        }
        let room = maxLetterBytes;
        let cut = false;
        const copy = (view: Buffer): Buffer => {
          cut ||= view.length > room;
          const kept = Buffer.from(view.subarray(0, room));
          room -= kept.length;
          return kept;
        };
        const key = keyStart < 0 ? null : copy(bytes.subarray(keyStart, keyEnd));
        const headers = readHeaders(bytes, headersStart, headersEnd).map((header) => ({
          name: header.key,
          value: header.value && copy(header.value),
        }));
        const value = valueStart < 0 ? null : copy(bytes.subarray(valueStart, valueEnd));
        letters.push({
          code: death.code,
          reason: cut
            ? `${death.reason} Of key, headers and value only the first ${maxLetterBytes} bytes are kept here; the source topic has the rest.`
            : death.reason,
          offset: BigInt(offset),
          // -1 where the producer gave none, and whatever else a producer may write.
          timestamp: timestamp >= 0 && timestamp <= latestTimestamp ? BigInt(timestamp) : null,
          table: null,
          key,
          value,
          headers,
        });
      },
    );
  }
  return letters;
}
