import { rm } from 'node:fs/promises';
import path from 'node:path';
import type { Processor, TextBlock } from '@anabranch/compute';
import { countRecords, encodeProcessorPosition } from '@anabranch/contract';
import {
  joinStretches,
  type Stretch,
  stretchesOf,
  type TakenBlocks,
  type TextStretch,
} from '@anabranch/processor';

/** What is spooled of one partition: its coverage, in memory. */
export interface SpooledPart {
  readonly topic: string;
  readonly partition: number;
  /** null: only replays were read. */
  readonly stretch: Stretch | null;
  /** What to commit once it is stored. */
  readonly offset: bigint;
  readonly metadata: string;
}

/** Records that lie in one file; all of a partition's were written under one definition. */
export interface SpoolEntry {
  /** One per partition. */
  readonly parts: readonly SpooledPart[];
  /** The Parquet file; null where no block had a record. */
  readonly file: string | null;
  readonly records: number;
  /** Of the records' text. */
  readonly bytes: number;
  readonly loadSeconds: number;
}

export interface SpoolOptions {
  readonly processor: Pick<Processor, 'spool'>;
  /** A folder of this spool alone. */
  readonly directory: string;
  /** Texts are gathered in memory up to about this size, so that a trickle doesn't become a host of files. */
  readonly fileBytes: number;
}

/**
 * Where blocks wait for a run: their records on disk, their coverage joined in memory. So an hour of
 * blocks takes no more memory than a second of them.
 */
export class Spool {
  readonly #options: SpoolOptions;
  #closed: SpoolEntry[] = [];
  #open = new OpenEntry();
  #files = 0;

  constructor(options: SpoolOptions) {
    this.#options = options;
  }

  get isEmpty(): boolean {
    return this.#closed.length === 0 && this.#open.isEmpty;
  }

  get records(): number {
    return this.#closed.reduce((sum, entry) => sum + entry.records, this.#open.records);
  }

  /** Of the records' text. */
  get bytes(): number {
    return this.#closed.reduce((sum, entry) => sum + entry.bytes, this.#open.bytes);
  }

  async add(taken: readonly TakenBlocks[]): Promise<void> {
    for (const [part, texts] of taken.flatMap(partsOf)) {
      if (!this.#open.takes(part)) {
        await this.#close();
      }
      this.#open.add(part, texts);
      if (this.#open.bytes >= this.#options.fileBytes) {
        await this.#close();
      }
    }
  }

  /** Takes out all that was added, in order; whoever takes it removes the files. */
  async take(): Promise<SpoolEntry[]> {
    await this.#close();
    const entries = this.#closed;
    this.#closed = [];
    return entries;
  }

  async clear(): Promise<void> {
    const entries = this.#closed;
    this.#closed = [];
    this.#open = new OpenEntry();
    await removeFiles(entries);
  }

  async #close(): Promise<void> {
    const { parts, texts, records, bytes, isEmpty } = this.#open;
    if (isEmpty) {
      return;
    }
    const entry = { parts: [...parts.values()], records, bytes };
    if (texts.length === 0) {
      this.#closed.push({ ...entry, file: null, loadSeconds: 0 });
    } else {
      const { processor, directory } = this.#options;
      const file = path.join(directory, `${String(this.#files++).padStart(9, '0')}.parquet`);
      try {
        const { seconds } = await processor.spool(texts, file);
        this.#closed.push({ ...entry, file, loadSeconds: seconds });
      } catch (error) {
        // A full disk, say: half a file must not keep it full.
        await rm(file, { force: true });
        throw error;
      }
    }
    this.#open = new OpenEntry();
  }
}

/** What becomes the next entry. */
class OpenEntry {
  readonly parts = new Map<number, SpooledPart>();
  readonly texts: TextBlock[] = [];
  records = 0;
  bytes = 0;

  get isEmpty(): boolean {
    return this.parts.size === 0;
  }

  takes(part: SpooledPart): boolean {
    return hasSameDefinition(this.parts.get(part.partition), part);
  }

  add(part: SpooledPart, texts: readonly TextBlock[]): void {
    this.parts.set(part.partition, joinParts(this.parts.get(part.partition), part));
    for (const { partition, text, runs } of texts) {
      // The view would keep all that was fetched with it.
      this.texts.push({ partition, text: Buffer.from(text), runs });
      this.records += countRecords(runs);
      this.bytes += text.length;
    }
  }
}

/**
 * A part for each stretch of what was taken of a partition. In front of the last one, the offset to
 * commit is where the reading began: the blocks are read again, and those in front of the committed
 * source offset are dropped as replays.
 */
function partsOf({
  topic,
  partition,
  blocks,
  from,
  offset,
  metadata,
}: TakenBlocks): [SpooledPart, readonly TextBlock[]][] {
  const stretches = stretchesOf(partition, blocks);
  if (stretches.length === 0) {
    return [[{ topic, partition, stretch: null, offset, metadata }, []]];
  }
  return stretches.map((stretch, index) => {
    const { texts, ...rest }: TextStretch = stretch;
    const to =
      index === stretches.length - 1
        ? { offset, metadata }
        : {
            offset: from,
            metadata: encodeProcessorPosition({
              epoch: stretch.coverage.epoch,
              next: stretch.coverage.to,
            }),
          };
    return [{ topic, partition, stretch: rest, ...to }, texts];
  });
}

function hasSameDefinition(a: SpooledPart | undefined, b: SpooledPart): boolean {
  const before = a?.stretch?.coverage.definition;
  const after = b.stretch?.coverage.definition;
  return before === undefined || after === undefined || before === after;
}

function joinParts(before: SpooledPart | undefined, part: SpooledPart): SpooledPart {
  if (!before?.stretch) {
    return part;
  }
  return {
    ...part,
    stretch: part.stretch === null ? before.stretch : joinStretches(before.stretch, part.stretch),
  };
}

/** Entries that a run stores in one transaction. */
export interface Slice {
  readonly entries: readonly SpoolEntry[];
  /** Their parts, joined: one per partition. */
  readonly parts: readonly SpooledPart[];
  readonly records: number;
  readonly bytes: number;
}

/**
 * Cuts entries into slices, in order: so one transaction, and one partial in fusion's memory, stays
 * small however large the backlog is. All that a slice has of a partition was written under one
 * definition.
 */
export function slicesOf(entries: readonly SpoolEntry[], sliceBytes: number): Slice[] {
  const slices: Slice[] = [];
  let current: SpoolEntry[] = [];
  let parts = new Map<number, SpooledPart>();
  let records = 0;
  let bytes = 0;
  const close = (): void => {
    if (current.length > 0) {
      slices.push({ entries: current, parts: [...parts.values()], records, bytes });
      current = [];
      parts = new Map();
      records = bytes = 0;
    }
  };
  for (const entry of entries) {
    const fits =
      bytes + entry.bytes <= sliceBytes &&
      entry.parts.every((part) => hasSameDefinition(parts.get(part.partition), part));
    if (!fits) {
      close();
    }
    current.push(entry);
    for (const part of entry.parts) {
      parts.set(part.partition, joinParts(parts.get(part.partition), part));
    }
    records += entry.records;
    bytes += entry.bytes;
  }
  close();
  return slices;
}

export async function removeFiles(entries: readonly SpoolEntry[]): Promise<void> {
  await Promise.all(
    entries.flatMap(({ file }) => (file === null ? [] : [rm(file, { force: true })])),
  );
}
