import { randomUUID } from 'node:crypto';
import type { Processor, SourcePlan } from '@anabranch/compute';
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
  countFates,
  noneProcessed,
  openSpans,
  partialMessages,
  type Stretch,
} from '@anabranch/processor';
import {
  type Log,
  type Metrics,
  StageClock,
  type StepSpans,
  type Tracer,
} from '@anabranch/service';
import { Cadence, type Trigger } from './cadence.ts';
import { removeFiles, type Slice, slicesOf, Spool, type SpooledPart } from './spool.ts';

export interface SourceBatchOptions {
  readonly plan: SourcePlan;
  readonly processor: Processor;
  readonly instance: string;
  /** A folder of this source alone; DuckDB may touch no other. */
  readonly spoolDirectory: string;
  /** About the text that becomes one file of the spool. */
  readonly fileBytes: number;
  /** About the text that is stored in one transaction. */
  readonly sliceBytes: number;
  readonly log: Log;
  readonly metrics: Metrics;
  readonly tracer: Tracer;
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
  readonly records: number;
  storeSeconds: number;
  /** Of its last slice that is stored: behind this its end is recorded. */
  last: SpooledPart | null;
}

/** Ranges without a record need no run, but each partial is a transaction: one a second suffices. */
const emptyIntervalMilliseconds = 1000;

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
  readonly #spans: StepSpans;
  readonly #cadence: Cadence;
  readonly #spool: Spool;
  #run: Run | null = null;
  #emptySentAt = 0;
  /** Of slices whose transaction is through, to be sent with the next partial. */
  #costs: readonly StepCost[] = [];

  constructor(options: SourceBatchOptions) {
    this.#options = options;
    const { source } = options.plan;
    this.#topics = internalTopics(source.topic);
    this.#intake = new BlockIntake(source.name, 'batch', options.metrics);
    this.#clock = new StageClock('batch-processor', options.metrics.stepSeconds);
    this.#spans = options.tracer.spans('batch.process');
    this.#cadence = new Cadence(source.batch, options.now());
    this.#spool = new Spool({
      processor: options.processor,
      directory: options.spoolDirectory,
      fileBytes: options.fileBytes,
    });
  }

  assigned(assigned: readonly AssignedPartition[], context: AssignedContext): void {
    this.#intake.assigned(assigned, context);
  }

  /** Everything that isn't committed is read again by whoever gets the partitions. */
  async revoked(): Promise<void> {
    const slices = this.#run?.slices ?? [];
    this.#run = null;
    this.#intake.clear();
    this.#spans.abandon();
    await this.#spool.clear();
    await removeFiles(slices.flatMap(({ entries }) => entries));
  }

  step(work: readonly PartitionWork[], context: StepContext): Promise<StepResult | null> {
    return this.#spans.during(() => this.#step(work, context));
  }

  async #step(work: readonly PartitionWork[], context: StepContext): Promise<StepResult | null> {
    await this.#spool.add(this.#intake.take(work, context));
    const now = this.#options.now();
    this.#run ??= await this.#begin(now);
    if (this.#run === null) {
      return this.#storeEmpty(now);
    }
    const [slice] = this.#run.slices;
    return slice === undefined
      ? this.#end(this.#run, this.#run.last)
      : this.#storeSlice(this.#run, slice, context);
  }

  async #begin(now: number): Promise<Run | null> {
    const { records, bytes } = this.#spool;
    const trigger = this.#cadence.due(now, bytes);
    if (trigger === null) {
      return null;
    }
    this.#cadence.begun(now);
    if (records === 0) {
      return null;
    }
    const slices = slicesOf(await this.#spool.take(), this.#options.sliceBytes);
    const id = randomUUID();
    this.#options.log.info('run begun', {
      source: this.#options.plan.source.name,
      run: id,
      trigger,
      records,
      bytes,
      slices: slices.length,
    });
    return { id, trigger, startedAt: now, slices, records, storeSeconds: 0, last: null };
  }

  async #storeSlice(run: Run, slice: Slice, context: StepContext): Promise<StepResult> {
    const { plan, processor, instance, metrics } = this.#options;
    const { entries, parts, records, bytes } = slice;
    const stretches = stretchesIn(parts);
    openSpans(this.#spans, 'batch', stretches, run.id);
    const files = entries.flatMap(({ file }) => (file === null ? [] : [file]));
    const processed =
      files.length === 0
        ? noneProcessed
        : await processor.processFiles(
            files,
            stretches.map(({ partition }) => partition),
          );
    const rows = processed.tables.reduce((sum, table) => sum + table.rows, 0);
    const seconds = {
      ...processed.seconds,
      load: entries.reduce((sum, { loadSeconds }) => sum + loadSeconds, processed.seconds.load),
    };
    const share = {
      ...seconds,
      bytes: BigInt(bytes),
      records: BigInt(records),
      rows: BigInt(rows),
    };
    const messages = partialMessages(stretches, processed, {
      plan,
      topics: this.#topics,
      branch: 'batch',
      costs: this.#costs,
      // The seconds are of all partitions together: the first partial carries them.
      run: (first) => this.#shareOf(run, first ? share : noShare, null),
      spans: this.#spans,
    });
    const storeBegun = performance.now();
    return {
      messages,
      offsets: parts.map(offsetOf),
      committed: async () => {
        const store = (performance.now() - storeBegun) / 1000;
        run.storeSeconds += store;
        this.#tell(stretches);
        countFates(metrics, plan.source.name, processed);
        this.#clock.add({ ...seconds, store: seconds.store + store });
        this.#clock.count({ bytes, records, rows });
        const where = { instance, source: plan.source.name, branch: 'batch' as const };
        this.#sentCosts(messages.length > 0);
        const ended = this.#clock.end();
        this.#spans.end(ended);
        this.#costs = [...this.#costs, stepCost(ended, where)];
        run.last = parts.find(({ stretch }) => stretch !== null) ?? run.last;
        run.slices.shift();
        await removeFiles(entries);
        context.wake();
      },
    };
  }

  /**
   * The run's record is complete once its last slice is stored: an empty partial carries the rest.
   * With it goes the offset that was committed last, which fences it like any other partial.
   */
  #end(run: Run, last: SpooledPart | null): StepResult {
    const { plan, log, now } = this.#options;
    const finishedAt = now();
    const partial = last?.stretch && this.#endOf(run, last.stretch, finishedAt);
    return {
      messages: (partial ? encodePartial(partial) : []).map((value) => ({
        topic: this.#topics.results,
        partition: partial?.partition ?? 0,
        value,
      })),
      offsets: last === null ? [] : [offsetOf(last)],
      committed: () => {
        this.#sentCosts(true);
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

  #endOf(run: Run, { coverage }: Stretch, finishedAt: number): Partial {
    return {
      ...coverage,
      from: coverage.to,
      split: { stream: 0n, batch: 0n, dead: 0n, rules: coverage.split.rules.map(() => 0n) },
      branch: 'batch',
      producedAt: 0n,
      tables: [],
      costs: this.#costs,
      run: this.#shareOf(run, { ...noShare, store: run.storeSeconds }, finishedAt),
    };
  }

  #tell(stretches: readonly Stretch[]): void {
    for (const { partition, producedAt } of stretches) {
      this.#options.processed(partition, Number(producedAt));
    }
  }

  #sentCosts(sent: boolean): void {
    if (sent) {
      this.#costs = [];
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
  async #storeEmpty(now: number): Promise<StepResult | null> {
    const { plan } = this.#options;
    if (
      this.#spool.isEmpty ||
      this.#spool.records > 0 ||
      now - this.#emptySentAt < emptyIntervalMilliseconds
    ) {
      return null;
    }
    this.#emptySentAt = now;
    // One slice, but for the moment of an upgrade.
    const slices = slicesOf(await this.#spool.take(), Infinity);
    const stretches = slices.map(({ parts }) => stretchesIn(parts)).filter(({ length }) => length);
    openSpans(this.#spans, 'batch', stretches.flat());
    const offsets = new Map(
      slices.flatMap(({ parts }) => parts.map((part) => [part.partition, offsetOf(part)])),
    );
    const messages = stretches.flatMap((round, index) =>
      partialMessages(round, noneProcessed, {
        plan,
        topics: this.#topics,
        branch: 'batch',
        costs: index === 0 ? this.#costs : [],
        run: () => null,
        spans: this.#spans,
      }),
    );
    return {
      messages,
      offsets: [...offsets.values()],
      committed: () => {
        this.#spans.end();
        this.#sentCosts(messages.length > 0);
        this.#tell(stretches.flat());
      },
    };
  }
}

const noShare = { bytes: 0n, records: 0n, rows: 0n, ...noneProcessed.seconds };

function stretchesIn(parts: readonly SpooledPart[]): Stretch[] {
  return parts.flatMap(({ stretch }) => stretch ?? []);
}

function offsetOf({
  topic,
  partition,
  offset,
  metadata,
}: SpooledPart): StepResult['offsets'][number] {
  return { topic, partition, offset, metadata };
}
