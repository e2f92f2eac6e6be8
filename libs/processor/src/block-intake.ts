import { type Block, ContractError, encodeProcessorPosition } from '@anabranch/contract';
import { CoverageError } from '@anabranch/coverage';
import {
  type AssignedContext,
  type AssignedPartition,
  KafkaError,
  type PartitionWork,
  type StepContext,
  walk,
} from '@anabranch/kafka';
import { type Metrics, readTraceparent } from '@anabranch/service';
import { type BlockReader, blockReader } from './block-reader.ts';

/** A block, and the traceparent that came with it. */
export type TakenBlock = Block & { readonly trace?: string | undefined };

/** The blocks of one partition that a step has to account for. */
export interface TakenBlocks {
  readonly topic: string;
  readonly partition: number;
  /** Adjacent, in order; replays are left out. */
  readonly blocks: readonly TakenBlock[];
  /** Kafka offset at which this step began to read. */
  readonly from: bigint;
  /** What to commit once they are accounted for. */
  readonly offset: bigint;
  readonly metadata: string;
}

/**
 * Reads blocks from one branch topic of one source, each once and none left out. What doesn't fit
 * halts its partition; the others go on.
 */
export class BlockIntake {
  readonly #source: string;
  readonly #branch: string;
  readonly #metrics: Metrics;
  readonly #readers = new Map<number, BlockReader>();

  constructor(source: string, branch: string, metrics: Metrics) {
    this.#source = source;
    this.#branch = branch;
    this.#metrics = metrics;
  }

  /** Goes on where the committed offsets of these partitions say. */
  assigned(assigned: readonly AssignedPartition[], context: AssignedContext): void {
    this.#readers.clear();
    for (const { topic, partition, committed } of assigned) {
      const reader = blockReader(
        committed?.metadata ?? null,
        `${this.#source}/${partition} ${this.#branch}`,
      );
      if (reader === null) {
        context.halt(
          topic,
          partition,
          `the group's offset ${committed?.offset} was not committed by this processor: coverage can't be proved from it. Restore the offset with its metadata.`,
        );
      } else {
        this.#readers.set(partition, reader);
      }
    }
  }

  clear(): void {
    this.#readers.clear();
  }

  take(work: readonly PartitionWork[], context: StepContext): TakenBlocks[] {
    return work.flatMap((piece) => this.#takePiece(piece, context) ?? []);
  }

  #takePiece(piece: PartitionWork, context: StepContext): TakenBlocks | null {
    const { topic, partition, batches, from } = piece;
    const reader = this.#readers.get(partition);
    if (reader === undefined) {
      return null;
    }
    const blocks: TakenBlock[] = [];
    let replayed = 0;
    let offset = from;
    try {
      for (const batch of batches) {
        walk(
          batch,
          (
            bytes,
            at,
            _time,
            valueStart,
            valueEnd,
            _keyStart,
            _keyEnd,
            headersStart,
            headersEnd,
          ) => {
            offset = BigInt(at);
            const block = reader.take(
              bytes.subarray(Math.max(valueStart, 0), Math.max(valueEnd, 0)),
            );
            if (block === null) {
              replayed++;
            } else {
              const trace = readTraceparent(bytes, headersStart, headersEnd);
              blocks.push(trace === undefined ? block : { ...block, trace });
            }
          },
          { from },
        );
      }
      offset = piece.next;
    } catch (error) {
      if (error instanceof CoverageError) {
        this.#metrics.blocksTotal.inc({ fate: error.code === 'GAP' ? 'gap' : 'overlap' });
      } else if (error instanceof ContractError || error instanceof KafkaError) {
        this.#metrics.blocksTotal.inc({ fate: 'damaged' });
      } else {
        throw error;
      }
      context.halt(topic, partition, error.message);
    }
    this.#metrics.blocksTotal.inc({ fate: 'read' }, blocks.length);
    this.#metrics.blocksTotal.inc({ fate: 'replayed' }, replayed);
    const { position } = reader;
    return position === null
      ? null
      : { topic, partition, blocks, from, offset, metadata: encodeProcessorPosition(position) };
  }
}
