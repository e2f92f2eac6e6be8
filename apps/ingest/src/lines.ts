import { isUtf8 } from 'node:buffer';
import type { Altered } from '@anabranch/contract';
import { visitHeaders, walk } from '@anabranch/kafka';

/** A record that is refused before its value is looked into. */
export interface Refused {
  readonly offset: bigint;
  readonly code: 'tombstone' | 'too-large' | 'too-many-lines' | 'not-utf8';
  readonly reason: string;
}

/**
 * Records of one partition as one text, a line each, and what is known of each line beside it: no
 * object per record.
 */
export interface Lines {
  /** The source offsets `[from, to)` that lines and refused records account for. */
  readonly from: bigint;
  readonly to: bigint;
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
  /** In the order of the lines. */
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
  /** The source offset behind the batches, and behind markers after them. */
  readonly to: bigint;
  readonly maxRecordBytes: number;
  readonly headerNames: readonly string[];
  /** About the size of a text; only a single record makes it longer. */
  readonly maxTextBytes: number;
}

const lineFeed = 0x0a;
const carriageReturn = 0x0d;
const byteOrderMark = [0xef, 0xbb, 0xbf] as const;

/**
 * Their positions travel beside the text, at up to four bytes each, and both must fit into a message:
 * a text with more is full, a value with more is refused. None printed for people comes near.
 */
const maxLineFeeds = 200_000;

/**
 * Reads record batches into lines: one value is one line, however it was printed. A carriage return
 * takes the place of a line feed, because JSON treats the two alike: between tokens both mean
 * nothing, within a string both are forbidden (a space would make such a string valid).
 *
 * @returns at least one piece, and more where the values, decompressed, are larger than a text
 * @throws KafkaError when a batch can't be read
 */
export function readLines(batches: readonly Buffer[], options: LinesOptions): Lines[] {
  // Enough for all values and their line feeds, unless batches are compressed.
  const expectedBytes = batches.reduce((sum, { length }) => sum + length, 0);
  const reader = new LineReader(options, Math.min(expectedBytes, options.maxTextBytes));
  const visit = reader.add.bind(reader);
  for (const batch of batches) {
    walk(batch, visit, { from: options.from });
  }
  return reader.end();
}

class LineReader {
  readonly #options: LinesOptions;
  readonly #wanted: readonly { readonly name: string; readonly key: Buffer }[];
  readonly #visitHeader = this.#addHeader.bind(this);
  readonly #pieces: Lines[] = [];
  #from: bigint;

  #text: Buffer;
  #end = 0;
  #line = 0;
  #starts = new Uint32Array(1024);
  #offsets = new Float64Array(1024);
  #timestamps = new Float64Array(1024);
  #sizes = new Uint32Array(1024);
  #altered: Altered[] = [];
  #lineFeeds = 0;
  #headers: Map<string, (string | null)[]> | null = null;
  #refused: Refused[] = [];
  #producedAt = 0;

  constructor(options: LinesOptions, textBytes: number) {
    this.#options = options;
    this.#wanted = options.headerNames.map((name) => ({ name, key: Buffer.from(name) }));
    this.#from = options.from;
    this.#text = Buffer.allocUnsafe(textBytes);
  }

  add(
    bytes: Buffer,
    offset: number,
    timestamp: number,
    valueStart: number,
    valueEnd: number,
    _keyStart: number,
    _keyEnd: number,
    headersStart: number,
    headersEnd: number,
  ): void {
    const size = valueEnd - valueStart;
    const { maxRecordBytes } = this.#options;
    if (valueStart >= 0 && size <= maxRecordBytes) {
      this.#reserve(size + 1, offset);
    }
    if (timestamp > this.#producedAt) {
      this.#producedAt = timestamp;
    }
    if (valueStart < 0) {
      this.#refused.push({
        offset: BigInt(offset),
        code: 'tombstone',
        reason: 'The record has no value: Anabranch adds up records and deletes none.',
      });
      return;
    }
    if (size > maxRecordBytes) {
      this.#refused.push({
        offset: BigInt(offset),
        code: 'too-large',
        reason: `The value has ${size} bytes; max_record_bytes of the source allows ${maxRecordBytes}.`,
      });
      return;
    }
    const marked =
      size >= 3 &&
      bytes[valueStart] === byteOrderMark[0] &&
      bytes[valueStart + 1] === byteOrderMark[1] &&
      bytes[valueStart + 2] === byteOrderMark[2];
    const text = this.#text;
    const start = this.#end;
    const end = start + bytes.copy(text, start, valueStart + (marked ? 3 : 0), valueEnd);
    text[end] = lineFeed;
    const feeds = replaceLineFeeds(text, start, end);
    if (feeds !== null && feeds.length > maxLineFeeds) {
      this.#refused.push({
        offset: BigInt(offset),
        code: 'too-many-lines',
        reason: `The value has ${feeds.length} line breaks; at most ${maxLineFeeds} are allowed.`,
      });
      return;
    }
    this.#lineFeeds += feeds?.length ?? 0;
    const line = this.#line++;
    if (marked || feeds !== null) {
      this.#altered.push({ record: line, byteOrderMark: marked, lineFeeds: feeds ?? [] });
    }
    this.#starts[line] = start;
    this.#offsets[line] = offset;
    this.#timestamps[line] = timestamp;
    this.#sizes[line] = size;
    this.#end = end + 1;
    // One byte: the record has no header at all.
    if (this.#wanted.length > 0 && headersEnd - headersStart > 1) {
      visitHeaders(bytes, headersStart, headersEnd, this.#visitHeader);
    }
  }

  end(): Lines[] {
    this.#close(this.#options.to);
    return this.#pieces;
  }

  /** Makes room for a line; the record with this offset begins a new piece where the text is full. */
  #reserve(size: number, offset: number): void {
    const { maxTextBytes } = this.#options;
    const isFull = this.#end + size > maxTextBytes || this.#lineFeeds > maxLineFeeds;
    if (isFull && this.#line > 0) {
      this.#close(BigInt(offset));
      this.#text = Buffer.allocUnsafe(Math.max(size, Math.min(this.#text.length, maxTextBytes)));
    }
    const needed = this.#end + size;
    if (needed > this.#text.length) {
      const doubled = Math.min(this.#text.length * 2, maxTextBytes);
      const grown = Buffer.allocUnsafe(Math.max(needed, doubled));
      this.#text.copy(grown, 0, 0, this.#end);
      this.#text = grown;
    }
    // One more than there are lines, for the end of the last one.
    if (this.#line + 1 >= this.#starts.length) {
      const lines = this.#starts.length * 2;
      this.#starts = copied(new Uint32Array(lines), this.#starts);
      this.#offsets = copied(new Float64Array(lines), this.#offsets);
      this.#timestamps = copied(new Float64Array(lines), this.#timestamps);
      this.#sizes = copied(new Uint32Array(lines), this.#sizes);
    }
  }

  /** Of the line that was added last. */
  #addHeader(
    bytes: Buffer,
    keyStart: number,
    keyEnd: number,
    valueStart: number,
    valueEnd: number,
  ): void {
    for (const { name, key } of this.#wanted) {
      if (
        key.length === keyEnd - keyStart &&
        bytes.compare(key, 0, key.length, keyStart, keyEnd) === 0
      ) {
        this.#headers ??= new Map(this.#options.headerNames.map((wanted) => [wanted, []]));
        const column = this.#headers.get(name)!;
        const line = this.#line - 1;
        while (column.length < line) {
          column.push(null);
        }
        // Of a header that occurs more than once, the last one counts. NUL isn't text.
        column[line] =
          valueStart < 0
            ? null
            : bytes.toString('utf8', valueStart, valueEnd).replaceAll('\0', '\u{FFFD}');
      }
    }
  }

  /** Ends the piece in front of the source offset `to`. */
  #close(to: bigint): void {
    const count = this.#line;
    this.#starts[count] = this.#end;
    for (const column of this.#headers?.values() ?? []) {
      while (column.length < count) {
        column.push(null);
      }
    }
    const lines: Lines = {
      from: this.#from,
      to,
      count,
      text: this.#text.subarray(0, this.#end),
      starts: this.#starts.slice(0, count + 1),
      offsets: this.#offsets.slice(0, count),
      timestamps: this.#timestamps.slice(0, count),
      sizes: this.#sizes.slice(0, count),
      altered: this.#altered,
      headers: this.#headers,
      refused: this.#refused,
      producedAt: this.#producedAt,
    };
    this.#pieces.push(isUtf8(lines.text) ? lines : withoutInvalid(lines));
    this.#from = to;
    this.#line = 0;
    this.#end = 0;
    this.#altered = [];
    this.#lineFeeds = 0;
    this.#headers = null;
    this.#refused = [];
    this.#producedAt = 0;
  }
}

function copied<T extends Uint32Array | Float64Array>(to: T, from: T): T {
  to.set(from);
  return to;
}

/**
 * Positions of the line feeds in a value, in bytes from its start, which become carriage returns;
 * null: none.
 * @param end where the line's own line feed stands: no search runs beyond it
 */
function replaceLineFeeds(text: Buffer, start: number, end: number): number[] | null {
  let at = text.indexOf(lineFeed, start);
  if (at === end) {
    return null;
  }
  const feeds: number[] = [];
  for (; at < end; at = text.indexOf(lineFeed, at + 1)) {
    text[at] = carriageReturn;
    feeds.push(at - start);
  }
  return feeds;
}

/** The rare case: takes out the lines that aren't UTF-8. */
function withoutInvalid(lines: Lines): Lines {
  const lineOf = (i: number): Buffer => lines.text.subarray(lines.starts[i], lines.starts[i + 1]);
  const kept: number[] = [];
  const refused = [...lines.refused];
  for (let i = 0; i < lines.count; i++) {
    if (isUtf8(lineOf(i))) {
      kept.push(i);
    } else {
      refused.push({
        offset: BigInt(lines.offsets[i] ?? 0),
        code: 'not-utf8',
        reason: 'The value is not UTF-8, so it is no JSON.',
      });
    }
  }
  const pieces = kept.map(lineOf);
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
      lines.headers &&
      new Map(
        [...lines.headers].map(([name, column]) => [name, kept.map((i) => column[i] ?? null)]),
      ),
    refused,
  };
}
