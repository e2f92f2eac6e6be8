import { CoverageError, Frontier } from '@anabranch/coverage';
import {
  type Block,
  type Coverage,
  decodeBlock,
  decodeProcessorPosition,
  type ProcessorPosition,
  type SplitCounts,
} from '@anabranch/contract';

/**
 * How far a processor has come in one partition of its branch topic: takes each block once, in
 * order, and refuses to go on when one is missing.
 */
export class BlockReader {
  readonly #frontier: Frontier;
  #epoch: bigint;
  readonly #what: string;

  /**
   * @param position what the processor committed last; null: it starts at the origin
   * @param what names the partition in errors
   */
  constructor(position: ProcessorPosition | null, what: string) {
    this.#frontier = new Frontier(position?.next ?? null);
    this.#epoch = position?.epoch ?? 0n;
    this.#what = what;
  }

  /** What to commit; null before the first block. */
  get position(): ProcessorPosition | null {
    const { next } = this.#frontier;
    return next === null ? null : { next, epoch: this.#epoch };
  }

  /**
   * @returns the block, or null for a replay
   * @throws ContractError for a message that is no block, CoverageError when a block is missing, or
   *   ingest has begun anew: what looks like a replay then may be other records
   */
  take(message: Buffer): Block | null {
    const block = decodeBlock(message);
    if (this.#frontier.next !== null && block.epoch !== this.#epoch) {
      throw new CoverageError(
        'OVERLAP',
        `${this.#what}: ingest has begun anew at source offset ${block.from}, and [${block.origin}, ${this.#frontier.next}) were taken before: see docs/operations.md, "A source topic that was created anew".`,
      );
    }
    const isNew = this.#frontier.take(block, block.origin, this.#what);
    this.#epoch = block.epoch;
    return isNew ? block : null;
  }
}

/** Where a processor goes on; null when the committed metadata is not its own. */
export function blockReader(metadata: string | null, what: string): BlockReader | null {
  if (metadata === null) {
    return new BlockReader(null, what);
  }
  const position = decodeProcessorPosition(metadata);
  return position === null ? null : new BlockReader(position, what);
}

/**
 * What adjacent blocks of one partition account for together.
 * @throws CoverageError when they aren't adjacent
 */
export function coverageOf(blocks: readonly Coverage[]): Coverage {
  const [first] = blocks;
  const last = blocks.at(-1);
  if (first === undefined || last === undefined) {
    throw new CoverageError('NOT_CONTIGUOUS', 'No block was given.');
  }
  blocks.reduce((before, block) => {
    if (before.to !== block.from) {
      throw new CoverageError(
        'NOT_CONTIGUOUS',
        `[${block.from}, ${block.to}) doesn't begin at ${before.to}.`,
      );
    }
    return block;
  });
  return {
    source: first.source,
    partition: first.partition,
    origin: first.origin,
    from: first.from,
    to: last.to,
    epoch: last.epoch,
    watermark: last.watermark,
    definition: first.definition,
    split: blocks.map(({ split }) => split).reduce(addCounts),
  };
}

function addCounts(a: SplitCounts, b: SplitCounts): SplitCounts {
  return {
    stream: a.stream + b.stream,
    batch: a.batch + b.batch,
    dead: a.dead + b.dead,
    rules: a.rules.map((count, rule) => count + (b.rules[rule] ?? 0n)),
  };
}
