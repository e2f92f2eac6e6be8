import type { Block } from '@anabranch/contract';
import type { TakenBlocks } from './block-intake.ts';

/** Adjacent blocks of one partition that ingest wrote under one definition of the source. */
export interface PartitionBlocks {
  readonly partition: number;
  readonly blocks: readonly [Block, ...Block[]];
}

/**
 * Cuts what was taken where the source's definition changes, since a partial's counts per split rule
 * belong to one definition: round i has the i-th stretch of each partition. It is one round but for
 * the moment of an upgrade.
 */
export function roundsOf(
  taken: readonly Pick<TakenBlocks, 'partition' | 'blocks'>[],
): PartitionBlocks[][] {
  const rounds: PartitionBlocks[][] = [];
  for (const { partition, blocks } of taken) {
    let round = -1;
    let stretch: [Block, ...Block[]] | undefined;
    for (const block of blocks) {
      if (stretch?.[0].definition === block.definition) {
        stretch.push(block);
      } else {
        stretch = [block];
        (rounds[++round] ??= []).push({ partition, blocks: stretch });
      }
    }
  }
  return rounds;
}
