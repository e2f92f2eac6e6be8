import { randomUUID } from 'node:crypto';
import { rm } from 'node:fs/promises';
import path from 'node:path';
import type { Processed, Processor, SourcePlan } from '@anabranch/compute';
import {
  encodePartial,
  type InternalTopics,
  internalTopics,
  type Partial,
  type RunShare,
  type StepCost,
  stepCost,
} from '@anabranch/contract';
import type {
  AssignedContext,
  AssignedPartition,
  PartitionWork,
  StepContext,
  StepResult,
} from '@anabranch/kafka';
import {
  BlockIntake,
  coverageOf,
  partialMessages,
  type PartitionBlocks,
  roundsOf,
  type TakenBlocks,
} from '@anabranch/processor';
import { type Log, type Metrics, StageClock } from '@anabranch/service';
import { Cadence, type Trigger } from './cadence.ts';
import {
  joinParts,
  type Slice,
  slicesOf,
  spoolables,
  type SpooledBlocks,
  type SpoolEntry,
} from './spool.ts';

export interface SourceBatchOptions {
  readonly plan: SourcePlan;
  readonly processor: Processor;
  readonly instance: string;
  /** A folder of this source alone; DuckDB may touch no other. */
  readonly spoolDirectory: string;
  readonly sliceBytes: number;
  readonly log: Log;
  readonly metrics: Metrics;
  /** Told of what is committed: when the newest record of a partition's blocks had been produced. */
  readonly processed: (partition: number, producedAt: number) => void;
  /** Milliseconds since 1970. */
  readonly now: () => number;
}

/** A run under way: everything that was spooled when it began, and nothing later. */
interface Run {
  readonly id: string;
  readonly trigger: Trigger;
  readonly startedAt: number;
  /** The slices to come. */
  readonly slices: Slice[];
  records: number;
  storeSeconds: number;
  /** Of its last slice: behind these its end is recorded. */
  last: PartitionBlocks | null;
}

/** Ranges without a record need no run, but each partial is a transaction: one a second suffices. */
const emptyIntervalMilliseconds = 1000;

type Message = StepResult['messages'][number];

/**
 * Spools the batch blocks of one source as Parquet, and at its cadence makes partials of all that is
 * spooled: a run. Offsets are committed with the partials, so whatever ends the process, the blocks
 * behind the last committed slice are read and spooled anew.
 */
export class SourceBatch {
  readonly #options: SourceBatchOptions;
  readonly #topics: InternalTopics;
  readonly #intake: BlockIntake;
  readonly #clock: StageClock;
  readonly #cadence: Cadence;
  #pending: SpoolEntry[] = [];
  #run: Run | null = null;
  #files = 0;
  #emptySentAt = 0;
  #costs: StepCost[] = [];

  constructor(options: SourceBatchOptions) {
    this.#options = options;
    const { source } = options.plan;
    this.#topics = internalTopics(source.topic);
    this.#intake = new BlockIntake(source.name, 'batch', options.metrics);
    this.#clock = new StageClock('batch-processor', options.metrics.stepSeconds);
    this.#cadence = new Cadence(source.batch, options.now());
  }

  assigned(assigned: readonly AssignedPartition[], context: AssignedContext): void {
    this.#intake.assigned(assigned, context);
  }

  /** Everything that isn't committed is read again by whoever gets the partitions. */
  async revoked(): Promise<void> {
    const files = [
      ...this.#pending,
      ...(this.#run?.slices.flatMap(({ entries }) => entries) ?? []),
    ];
    this.#pending = [];
    this.#run = null;
    this.#intake.clear();
    await removeFiles(files);
  }

  async step(work: readonly PartitionWork[], context: StepContext): Promise<StepResult | null> {
    await this.#spool(this.#intake.take(work, context));
    const now = this.#options.now();
    this.#run ??= this.#begin(now);
    if (this.#run !== null) {
      const [slice] = this.#run.slices;
      return slice === undefined
        ? this.#end(this.#run)
        : this.#storeSlice(this.#run, slice, context);
    }
    return this.#storeEmpty(now);
  }

  async #spool(taken: readonly TakenBlocks[]): Promise<void> {
    if (taken.length === 0) {
      return;
    }
    const { processor, spoolDirectory } = this.#options;
    for (const { parts, round } of spoolables(taken)) {
      const texts = round.flatMap(({ partition, blocks }) =>
        blocks
          .filter(({ runs }) => runs.length > 0)
          .map(({ payload, runs }) => ({ partition, text: payload, runs: [...runs] })),
      );
      if (texts.length === 0) {
        this.#pending.push({ parts, file: null, records: 0, bytes: 0, loadSeconds: 0 });
        continue;
      }
      const file = path.join(spoolDirectory, `${String(this.#files++).padStart(9, '0')}.parquet`);
      const { records, seconds } = await processor.spool(texts, file);
      const bytes = texts.reduce((sum, { text }) => sum + text.length, 0);
      this.#pending.push({ parts, file, records, bytes, loadSeconds: seconds });
    }
  }

  #begin(now: number): Run | null {
    const records = this.#pending.reduce((sum, entry) => sum + entry.records, 0);
    const bytes = this.#pending.reduce((sum, entry) => sum + entry.bytes, 0);
    const trigger = this.#cadence.due(now, bytes);
    if (trigger === null) {
      return null;
    }
    this.#cadence.begun(now);
    if (records === 0) {
      return null;
    }
    const slices = slicesOf(this.#pending, this.#options.sliceBytes);
    this.#pending = [];
    const run: Run = {
      id: randomUUID(),
      trigger,
      startedAt: now,
      slices,
      records,
      storeSeconds: 0,
      last: null,
    };
    this.#options.log.info('run begun', {
      source: this.#options.plan.source.name,
      run: run.id,
      trigger,
      records,
      bytes,
      slices: slices.length,
    });
    return run;
  }

  async #storeSlice(run: Run, slice: Slice, context: StepContext): Promise<StepResult> {
    const { plan, processor, instance } = this.#options;
    const { entries, bytes } = slice;
    const parts = joinParts(entries);
    const [round = []] = roundsOf(parts);
    const processed = await processor.processFiles(
      entries.flatMap(({ file }) => (file === null ? [] : [file])),
      round.map(({ partition }) => partition),
    );
    const records = entries.reduce((sum, entry) => sum + entry.records, 0);
    const rows = processed.tables.reduce((sum, table) => sum + table.rows, 0);
    const load =
      processed.seconds.load + entries.reduce((sum, entry) => sum + entry.loadSeconds, 0);
    const share = {
      ...processed.seconds,
      load,
      bytes: BigInt(bytes),
      records: BigInt(records),
      rows: BigInt(rows),
    };
    this.#countRecords(processed);
    const messages = partialMessages(round, processed, {
      plan,
      topics: this.#topics,
      branch: 'batch',
      costs: this.#costs.splice(0),
      // The seconds are of all partitions together: the first partial carries them.
      run: (_partition, first) => this.#shareOf(run, first ? share : noShare, null),
    });
    const storeBegun = performance.now();
    return {
      messages,
      offsets: parts.map(({ topic, partition, offset, metadata }) => ({
        topic,
        partition,
        offset,
        metadata,
      })),
      committed: async () => {
        this.#told(parts);
        const seconds = (performance.now() - storeBegun) / 1000;
        run.storeSeconds += seconds;
        this.#clock.add({ ...processed.seconds, load, store: processed.seconds.store + seconds });
        this.#clock.count({ bytes, records, rows });
        this.#costs.push(
          stepCost(this.#clock.end(), { instance, source: plan.source.name, branch: 'batch' }),
        );
        run.last = round[0] ?? run.last;
        run.slices.shift();
        await removeFiles(entries);
        context.wake();
      },
    };
  }

  /** The run's record is complete once its last slice is stored: an empty partial carries the rest. */
  #end(run: Run): StepResult {
    const { plan, log, now } = this.#options;
    const finishedAt = now();
    const messages: Message[] = [];
    if (run.last !== null) {
      const { partition, blocks } = run.last;
      const coverage = coverageOf(blocks);
      const partial: Partial = {
        ...coverage,
        from: coverage.to,
        split: { stream: 0n, batch: 0n, dead: 0n, rules: coverage.split.rules.map(() => 0n) },
        branch: 'batch',
        producedAt: 0n,
        tables: [],
        costs: this.#costs.splice(0),
        run: this.#shareOf(run, { ...noShare, store: run.storeSeconds }, finishedAt),
      };
      for (const value of encodePartial(partial)) {
        messages.push({ topic: this.#topics.results, partition, value });
      }
    }
    return {
      messages,
      offsets: [],
      committed: () => {
        this.#run = null;
        log.info('run ended', {
          source: plan.source.name,
          run: run.id,
          records: run.records,
          seconds: (finishedAt - run.startedAt) / 1000,
        });
      },
    };
  }

  #told(parts: readonly SpooledBlocks[]): void {
    for (const { partition, blocks } of parts) {
      this.#options.processed(partition, Number(blocks.at(-1)?.producedAt ?? 0n));
    }
  }

  #countRecords(processed: Processed): void {
    const { plan, metrics } = this.#options;
    const source = plan.source.name;
    for (const { name: table, aggregated, filtered, dead } of processed.tables) {
      metrics.recordsTotal.inc({ source, table, fate: 'aggregated' }, aggregated);
      metrics.recordsTotal.inc({ source, table, fate: 'filtered' }, filtered);
      metrics.recordsTotal.inc({ source, table, fate: 'dead' }, dead);
    }
  }

  #shareOf(run: Run, share: typeof noShare, finishedAt: number | null): RunShare {
    return {
      ...share,
      id: run.id,
      instance: this.#options.instance,
      trigger: run.trigger,
      startedAt: BigInt(run.startedAt),
      finishedAt: finishedAt === null ? null : BigInt(finishedAt),
    };
  }

  /**
   * While no record waits on the batch branch, its frontier has no reason to wait for a run: windows
   * become final as fast as the stream's.
   */
  #storeEmpty(now: number): StepResult | null {
    const { plan } = this.#options;
    if (
      this.#pending.length === 0 ||
      this.#pending.some(({ records }) => records > 0) ||
      now - this.#emptySentAt < emptyIntervalMilliseconds
    ) {
      return null;
    }
    this.#emptySentAt = now;
    const entries = this.#pending;
    this.#pending = [];
    const parts = joinParts(entries);
    const messages = roundsOf(parts).flatMap((round) =>
      partialMessages(
        round,
        { tables: [], deadLetters: [], seconds: noSeconds },
        {
          plan,
          topics: this.#topics,
          branch: 'batch',
          costs: this.#costs.splice(0),
          run: () => null,
        },
      ),
    );
    return {
      messages,
      offsets: parts.map(({ topic, partition, offset, metadata }) => ({
        topic,
        partition,
        offset,
        metadata,
      })),
    };
  }
}

const noSeconds = { load: 0, preprocess: 0, process: 0, store: 0 };
const noShare = { bytes: 0n, records: 0n, rows: 0n, ...noSeconds };

async function removeFiles(entries: readonly SpoolEntry[]): Promise<void> {
  await Promise.all(
    entries.flatMap(({ file }) => (file === null ? [] : [rm(file, { force: true })])),
  );
}
