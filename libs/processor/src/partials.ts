import type { Processed, SourcePlan } from '@anabranch/compute';
import {
  type Block,
  type Branch,
  type DeadLetter,
  encodeDeadLetters,
  encodePartial,
  type InternalTopics,
  restoreValue,
  type RunShare,
  type StepCost,
  type TablePart,
} from '@anabranch/contract';
import type { StepResult } from '@anabranch/kafka';
import { coverageOf } from './block-reader.ts';
import type { PartitionBlocks } from './rounds.ts';

type Message = StepResult['messages'][number];

export interface PartialOptions {
  readonly plan: SourcePlan;
  readonly topics: InternalTopics;
  readonly branch: Branch;
  /** Costs of former steps, sent along with the first partial. */
  readonly costs: readonly StepCost[];
  /** The share of a run that each partial is; null on the stream branch. */
  readonly run: (partition: number, first: boolean) => RunShare | null;
}

/**
 * The messages that say what became of the blocks: a partial for each partition, also where it has no
 * row, since its coverage moves the frontier; and the dead letters of expressions that failed.
 */
export function partialMessages(
  round: readonly PartitionBlocks[],
  processed: Processed,
  { plan, topics, branch, costs, run }: PartialOptions,
): Message[] {
  const messages: Message[] = [];
  round.forEach(({ partition, blocks }, index) => {
    const partial = {
      ...coverageOf(blocks),
      branch,
      producedAt: blocks.reduce(
        (newest, { producedAt }) => (producedAt > newest ? producedAt : newest),
        0n,
      ),
      tables: tableParts(plan, processed, partition),
      costs: index === 0 ? costs : [],
      run: run(partition, index === 0),
    };
    for (const value of encodePartial(partial)) {
      messages.push({ topic: topics.results, partition, value });
    }
    const letters = deadLetters(processed, partition, blocks);
    for (const value of encodeDeadLetters({ source: plan.source.name, partition, letters })) {
      messages.push({ topic: topics.dead, partition, value });
    }
  });
  return messages;
}

function tableParts(plan: SourcePlan, processed: Processed, partition: number): TablePart[] {
  const hashes = new Map(plan.tables.map(({ table }) => [table.name, table.hash]));
  return processed.tables
    .filter((part) => part.partition === partition)
    .map(({ name, read, filtered, aggregated, dead, rows, text }) => ({
      name,
      hash: hashes.get(name) ?? '',
      read: BigInt(read),
      filtered: BigInt(filtered),
      aggregated: BigInt(aggregated),
      dead: BigInt(dead),
      rows: BigInt(rows),
      text,
    }));
}

function deadLetters(
  processed: Processed,
  partition: number,
  blocks: readonly Block[],
): DeadLetter[] {
  return processed.deadLetters
    .filter((letter) => letter.partition === partition)
    .map(({ offset, table, code, detail, text }) => ({
      offset,
      timestamp: null,
      table,
      code,
      reason: detail,
      key: null,
      value: text === null ? null : restoreValue(text, changeOf(offset, blocks)),
      headers: [],
    }));
}

/** What ingest changed in the record with this offset. */
function changeOf(offset: bigint, blocks: readonly Block[]): Block['altered'][number] | undefined {
  const block = blocks.find(({ from, to }) => from <= offset && offset < to);
  let place = 0;
  for (const { start, count } of block?.runs ?? []) {
    if (start <= offset && offset < start + BigInt(count)) {
      const record = place + Number(offset - start);
      return block?.altered.find((change) => change.record === record);
    }
    place += count;
  }
  return undefined;
}
