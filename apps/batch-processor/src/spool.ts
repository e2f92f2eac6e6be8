import { type Block, encodeProcessorPosition } from '@anabranch/contract';
import { type PartitionBlocks, roundsOf, type TakenBlocks } from '@anabranch/processor';

/** Blocks of one partition without their payload, which is on disk. */
export interface SpooledBlocks {
  readonly topic: string;
  readonly partition: number;
  readonly blocks: readonly Block[];
  /** What to commit once they are stored. */
  readonly offset: bigint;
  readonly metadata: string;
}

/** What a step took from the batch topic under one definition: coverage in memory, records on disk. */
export interface SpoolEntry {
  readonly parts: readonly SpooledBlocks[];
  /** The Parquet file; null where no block had a record. */
  readonly file: string | null;
  readonly records: number;
  /** Of the records' text. */
  readonly bytes: number;
  readonly loadSeconds: number;
}

/** What has to become one entry: its coverage, and the texts that go to disk. */
export interface Spoolable {
  readonly parts: readonly SpooledBlocks[];
  readonly round: readonly PartitionBlocks[];
}

/**
 * Cuts what a step took into what can be stored together: blocks under one definition per partition.
 * In front of the last cut, the offset committed is the one that the step began at: the blocks are
 * read again, and those in front of the committed source offset are dropped as replays.
 */
export function spoolables(taken: readonly TakenBlocks[]): Spoolable[] {
  const rounds = roundsOf(taken);
  return (rounds.length === 0 ? [[]] : rounds).map((round, index, all) => {
    const isLast = index === all.length - 1;
    const blocksOf = new Map(round.map(({ partition, blocks }) => [partition, blocks]));
    const parts = taken.flatMap(({ topic, partition, from, offset, metadata }): SpooledBlocks[] => {
      const blocks = (blocksOf.get(partition) ?? []).map((block) => ({
        ...block,
        payload: Buffer.alloc(0),
      }));
      const end = blocks.at(-1)?.to;
      if (isLast) {
        return [{ topic, partition, blocks, offset, metadata }];
      }
      return end === undefined
        ? []
        : [
            {
              topic,
              partition,
              blocks,
              offset: from,
              metadata: encodeProcessorPosition({ next: end }),
            },
          ];
    });
    return { parts, round };
  });
}

/** Entries that a run stores in one transaction. */
export interface Slice {
  readonly entries: readonly SpoolEntry[];
  readonly bytes: number;
}

/**
 * Cuts the entries of a run into slices, in order: so one transaction, and one partial in fusion's
 * memory, stays small however large the backlog is. A slice holds one definition per partition.
 */
export function slicesOf(entries: readonly SpoolEntry[], sliceBytes: number): Slice[] {
  const slices: Slice[] = [];
  let current: SpoolEntry[] = [];
  let bytes = 0;
  for (const entry of entries) {
    if (current.length > 0 && (bytes + entry.bytes > sliceBytes || !fits(current, entry))) {
      slices.push({ entries: current, bytes });
      current = [];
      bytes = 0;
    }
    current.push(entry);
    bytes += entry.bytes;
  }
  if (current.length > 0) {
    slices.push({ entries: current, bytes });
  }
  return slices;
}

function fits(entries: readonly SpoolEntry[], entry: SpoolEntry): boolean {
  return roundsOf(joinParts([...entries, entry])).length <= 1;
}

/** What several entries hold of each partition, in order. */
export function joinParts(entries: readonly SpoolEntry[]): SpooledBlocks[] {
  const joined = new Map<number, SpooledBlocks>();
  for (const part of entries.flatMap(({ parts }) => parts)) {
    const before = joined.get(part.partition);
    joined.set(
      part.partition,
      before === undefined ? part : { ...part, blocks: [...before.blocks, ...part.blocks] },
    );
  }
  return [...joined.values()];
}
