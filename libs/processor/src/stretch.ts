import type { TextBlock } from '@anabranch/compute';
import type { Block, Coverage } from '@anabranch/contract';
import { mostLinks } from '@anabranch/service';
import type { TakenBlock } from './block-intake.ts';
import { coverageOf } from './block-reader.ts';

/**
 * Adjacent blocks of one partition that ingest wrote under one definition of the source: a partial's
 * counts per split rule belong to one definition.
 */
export interface Stretch {
  readonly partition: number;
  readonly coverage: Coverage;
  /** Milliseconds since 1970 at which the newest record of the range was produced; 0: no record. */
  readonly producedAt: bigint;
  /** Of the blocks in which ingest altered records: what restoring them takes. */
  readonly altered: readonly AlteredBlock[];
  /** The traceparents of its first blocks that have one. */
  readonly traces: readonly string[];
}

export type AlteredBlock = Pick<Block, 'from' | 'to' | 'runs' | 'altered'>;

/** A stretch with the texts of its blocks, as views of the messages; none of a block without a record. */
export interface TextStretch extends Stretch {
  readonly texts: readonly TextBlock[];
}

/** The parent of its span, and the links. */
const mostTraces = 1 + mostLinks;

/** Cuts adjacent blocks of one partition where the definition changes: at most at an upgrade. */
export function stretchesOf(partition: number, blocks: readonly TakenBlock[]): TextStretch[] {
  const stretches: TextStretch[] = [];
  let first = 0;
  for (let i = 1; i <= blocks.length; i++) {
    if (blocks[i]?.definition !== blocks[first]?.definition) {
      stretches.push(stretchOf(partition, blocks.slice(first, i)));
      first = i;
    }
  }
  return stretches;
}

function stretchOf(partition: number, blocks: readonly TakenBlock[]): TextStretch {
  return {
    partition,
    coverage: coverageOf(blocks),
    producedAt: blocks.reduce((newest, { producedAt }) => max(newest, producedAt), 0n),
    altered: blocks.flatMap(({ from, to, runs, altered }) =>
      altered.length === 0 ? [] : [{ from, to, runs, altered }],
    ),
    traces: blocks.flatMap(({ trace }) => trace ?? []).slice(0, mostTraces),
    texts: blocks.flatMap(({ payload, runs }) =>
      runs.length === 0 ? [] : [{ partition, text: payload, runs }],
    ),
  };
}

/**
 * Two adjacent stretches under one definition as one, without texts.
 * @throws CoverageError when they aren't adjacent
 */
export function joinStretches(a: Stretch, b: Stretch): Stretch {
  return {
    partition: a.partition,
    coverage: coverageOf([a.coverage, b.coverage]),
    producedAt: max(a.producedAt, b.producedAt),
    altered: b.altered.length === 0 ? a.altered : [...a.altered, ...b.altered],
    traces:
      b.traces.length === 0 || a.traces.length === mostTraces
        ? a.traces
        : [...a.traces, ...b.traces].slice(0, mostTraces),
  };
}

const max = (a: bigint, b: bigint): bigint => (a > b ? a : b);

/** Round i has the i-th stretch of each partition: what can become partials in one go. */
export function roundsOf<T extends Stretch>(stretches: readonly (readonly T[])[]): T[][] {
  const rounds: T[][] = [];
  for (const ofPartition of stretches) {
    ofPartition.forEach((stretch, round) => {
      (rounds[round] ??= []).push(stretch);
    });
  }
  return rounds;
}
