import { isUtf8 } from 'node:buffer';
import type { Altered } from '@anabranch/contract';
import { readHeaders, walk } from '@anabranch/kafka';

/** A record that is refused before its value is looked into. */
export interface Refused {
  readonly offset: bigint;
  readonly code: 'tombstone' | 'too-large' | 'not-utf8';
  readonly reason: string;
}

/**
 * The records of one partition's share of a step as one text, a line each, and what is known of each
 * line beside it: no object per record.
 */
export interface Lines {
  readonly count: number;
  /** The values, each with a line feed behind it. */
  readonly text: Buffer;
  /** Where line i begins in the text; `starts[count]` is its end. */
  readonly starts: Uint32Array;
  /** Source offset of line i. */
  readonly offsets: Float64Array;
  /** Kafka's timestamp of line i, in milliseconds. */
  readonly timestamps: Float64Array;
  /** Length of the value as it was produced. */
  readonly sizes: Uint32Array;
  readonly altered: readonly Altered[];
  /** The headers that split rules ask for, per line; null where no record has one of them. */
  readonly headers: ReadonlyMap<string, (string | null)[]> | null;
  readonly refused: readonly Refused[];
  /** Largest timestamp; 0 without a record. */
  readonly producedAt: number;
}

export interface LinesOptions {
  /** Records in front of this source offset are skipped. */
  readonly from: bigint;
  readonly maxRecordBytes: number;
  readonly headerNames: readonly string[];
}

const lineFeed = 0x0a;
const space = 0x20;
const byteOrderMark = [0xef, 0xbb, 0xbf] as const;

/**
 * Reads record batches into lines. JSON allows a line feed only between tokens, where a space means
 * the same: so one value is one line, however it was printed.
 */
export function readLines(batches: readonly Buffer[], options: LinesOptions): Lines {
  const { from, maxRecordBytes, headerNames } = options;
  let records = 0;
  let bytes = 0;
  for (const batch of batches) {
    walk(
      batch,
      (_values, _offset, _timestamp, valueStart, valueEnd) => {
        records++;
        bytes += valueEnd - valueStart + 1;
      },
      { from },
    );
  }
  const text = Buffer.allocUnsafe(bytes);
  const starts = new Uint32Array(records + 1);
  const offsets = new Float64Array(records);
  const timestamps = new Float64Array(records);
  const sizes = new Uint32Array(records);
  const altered: Altered[] = [];
  const refused: Refused[] = [];
  const wanted = new Set(headerNames);
  let headers: Map<string, (string | null)[]> | null = null;
  let line = 0;
  let end = 0;
  let producedAt = 0;

  for (const batch of batches) {
    walk(
      batch,
      (
        values,
        offset,
        timestamp,
        valueStart,
        valueEnd,
        _keyStart,
        _keyEnd,
        headersStart,
        headersEnd,
      ) => {
        if (timestamp > producedAt) {
          producedAt = timestamp;
        }
        if (valueStart < 0) {
          refused.push({
            offset: BigInt(offset),
            code: 'tombstone',
            reason: 'The record has no value: Anabranch adds up records and deletes none.',
          });
          return;
        }
        const size = valueEnd - valueStart;
        if (size > maxRecordBytes) {
          refused.push({
            offset: BigInt(offset),
            code: 'too-large',
            reason: `The value has ${size} bytes; max_record_bytes of the source allows ${maxRecordBytes}.`,
          });
          return;
        }
        const marked =
          size >= 3 &&
          values[valueStart] === byteOrderMark[0] &&
          values[valueStart + 1] === byteOrderMark[1] &&
          values[valueStart + 2] === byteOrderMark[2];
        const start = end;
        end += values.copy(text, start, valueStart + (marked ? 3 : 0), valueEnd);
        text[end] = lineFeed;
        const feeds = replaceLineFeeds(text, start, end++);
        if (marked || feeds !== null) {
          altered.push({ record: line, byteOrderMark: marked, lineFeeds: feeds ?? [] });
        }
        starts[line] = start;
        offsets[line] = offset;
        timestamps[line] = timestamp;
        sizes[line] = size;
        // One byte: the record has no header at all.
        if (wanted.size > 0 && headersEnd - headersStart > 1) {
          for (const { key, value } of readHeaders(values, headersStart, headersEnd)) {
            if (wanted.has(key)) {
              headers ??= new Map(
                headerNames.map((name) => [name, Array<string | null>(records).fill(null)]),
              );
              const column = headers.get(key);
              if (column !== undefined) {
                // Of a header that occurs more than once, the last one counts. NUL isn't text.
                column[line] = value?.toString().replaceAll('\0', '\u{FFFD}') ?? null;
              }
            }
          }
        }
        line++;
      },
      { from },
    );
  }
  starts[line] = end;
  const lines: Lines = {
    count: line,
    text: text.subarray(0, end),
    starts: starts.subarray(0, line + 1),
    offsets: offsets.subarray(0, line),
    timestamps: timestamps.subarray(0, line),
    sizes: sizes.subarray(0, line),
    altered,
    headers: headers === null ? null : cut(headers, line),
    refused,
    producedAt,
  };
  return isUtf8(lines.text) ? lines : withoutInvalid(lines);
}

/**
 * Positions of the line feeds in a value, in bytes from its start, which become spaces; null: none.
 * @param end where the line's own line feed stands: no search runs beyond it
 */
function replaceLineFeeds(text: Buffer, start: number, end: number): number[] | null {
  let at = text.indexOf(lineFeed, start);
  if (at === end) {
    return null;
  }
  const feeds: number[] = [];
  for (; at < end; at = text.indexOf(lineFeed, at + 1)) {
    text[at] = space;
    feeds.push(at - start);
  }
  return feeds;
}

function cut(
  headers: ReadonlyMap<string, (string | null)[]>,
  count: number,
): Map<string, (string | null)[]> {
  return new Map([...headers].map(([name, column]) => [name, column.slice(0, count)]));
}

/** The rare case: takes out the lines that aren't UTF-8. */
function withoutInvalid(lines: Lines): Lines {
  const kept: number[] = [];
  const refused = [...lines.refused];
  for (let i = 0; i < lines.count; i++) {
    if (isUtf8(lines.text.subarray(lines.starts[i], lines.starts[i + 1]))) {
      kept.push(i);
    } else {
      refused.push({
        offset: BigInt(lines.offsets[i] ?? 0),
        code: 'not-utf8',
        reason: 'The value is not UTF-8, so it is no JSON.',
      });
    }
  }
  const pieces = kept.map((i) => lines.text.subarray(lines.starts[i], lines.starts[i + 1]));
  const starts = new Uint32Array(kept.length + 1);
  pieces.forEach((piece, i) => {
    starts[i + 1] = (starts[i] ?? 0) + piece.length;
  });
  const placeOf = new Map(kept.map((line, place) => [line, place]));
  return {
    ...lines,
    count: kept.length,
    text: Buffer.concat(pieces),
    starts,
    offsets: Float64Array.from(kept, (i) => lines.offsets[i] ?? 0),
    timestamps: Float64Array.from(kept, (i) => lines.timestamps[i] ?? 0),
    sizes: Uint32Array.from(kept, (i) => lines.sizes[i] ?? 0),
    altered: lines.altered.flatMap((change) => {
      const line = placeOf.get(change.record);
      return line === undefined ? [] : [{ ...change, record: line }];
    }),
    headers:
      lines.headers === null
        ? null
        : new Map(
            [...lines.headers].map(([name, column]) => [name, kept.map((i) => column[i] ?? null)]),
          ),
    refused,
  };
}
