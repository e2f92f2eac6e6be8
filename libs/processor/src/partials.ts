import type { Processed, SourcePlan } from '@anabranch/compute';
import {
  type Branch,
  type DeadLetter,
  encodeDeadLetters,
  encodePartial,
  type InternalTopics,
  restoreValue,
  type RunShare,
  type TableCost,
  type TablePart,
} from '@anabranch/contract';
import type { StepResult } from '@anabranch/kafka';
import { type Metrics, type StepSpans, traceHeader } from '@anabranch/service';
import type { AlteredBlock, Stretch } from './stretch.ts';

export type Message = StepResult['messages'][number];

/** What comes of stretches without a record. */
export const noneProcessed: Processed = {
  tables: [],
  deadLetters: [],
  seconds: { load: 0, preprocess: 0, process: 0, store: 0 },
  tableSeconds: new Map(),
};

export interface PartialOptions {
  readonly plan: SourcePlan;
  readonly topics: InternalTopics;
  readonly branch: Branch;
  /** The share of a run that each partial is; null on the stream branch. */
  readonly run: (first: boolean) => RunShare | null;
  /** Has a span for each stretch that is traced. */
  readonly spans: Pick<StepSpans, 'traceparent'>;
}

/**
 * The messages that say what became of the blocks: a partial for each stretch, also where it has no
 * row, since its coverage moves the frontier; and the dead letters of expressions that failed.
 * @param stretches at most one of each partition
 */
export function partialMessages(
  stretches: readonly Stretch[],
  processed: Processed,
  { plan, topics, branch, run, spans }: PartialOptions,
): Message[] {
  const messages: Message[] = [];
  stretches.forEach((stretch, index) => {
    const { partition, coverage, producedAt, altered } = stretch;
    const trace = spans.traceparent(stretch);
    const partial = {
      ...coverage,
      branch,
      producedAt,
      tables: tableParts(plan, processed, partition),
      run: run(index === 0),
    };
    for (const value of encodePartial(partial)) {
      messages.push({
        topic: topics.results,
        partition,
        value,
        ...(trace !== undefined && { headers: { [traceHeader]: trace } }),
      });
    }
    const letters = deadLetters(processed, partition, altered);
    for (const value of encodeDeadLetters({ source: plan.source.name, partition, letters })) {
      messages.push({ topic: topics.dead, partition, value });
    }
  });
  return messages;
}

/** Counts the records of a step by what became of them in each table. */
export function countFates(metrics: Metrics, source: string, { tables }: Processed): void {
  for (const { name: table, aggregated, filtered, dead } of tables) {
    metrics.recordsTotal.inc({ source, table, fate: 'aggregated' }, aggregated);
    metrics.recordsTotal.inc({ source, table, fate: 'filtered' }, filtered);
    metrics.recordsTotal.inc({ source, table, fate: 'dead' }, dead);
  }
}

/** What each table took of a step. */
export function tableCosts({ tables, tableSeconds }: Processed): TableCost[] {
  return [...tableSeconds].map(([table, seconds]) => {
    const own = tables.filter(({ name }) => name === table);
    return {
      table,
      records: BigInt(own.reduce((sum, { read }) => sum + read, 0)),
      rows: BigInt(own.reduce((sum, { rows }) => sum + rows, 0)),
      seconds,
    };
  });
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
  altered: readonly AlteredBlock[],
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
      value: text === null ? null : restoreValue(text, changeOf(offset, altered)),
      headers: [],
    }));
}

/** What ingest changed in the record with this offset. */
function changeOf(
  offset: bigint,
  blocks: readonly AlteredBlock[],
): AlteredBlock['altered'][number] | undefined {
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
