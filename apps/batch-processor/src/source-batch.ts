import { randomUUID } from 'node:crypto';
import type { Processor, SourcePlan } from '@anabranch/compute';
import {
  costIn,
  encodePartial,
  encodeTelemetry,
  type InternalTopics,
  internalTopics,
  type Partial,
  type RunShare,
  type Telemetry,
  withCost,
} from '@anabranch/contract';
import { processorUnits } from '@anabranch/cost';
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
  type Message,
  noneProcessed,
  openSpans,
  partialMessages,
  type Stretch,
  tableCosts,
} from '@anabranch/processor';
import {
  CostAccount,
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
  readonly #account: CostAccount;
  /** When the oldest record that waits had come, in milliseconds since 1970; null: none waits. */
  #waitingSince: number | null = null;

  constructor(options: SourceBatchOptions) {
    this.#options = options;
    const { source } = options.plan;
    this.#topics = internalTopics(source.topic);
    this.#intake = new BlockIntake(source.name, 'batch', options.metrics);
    this.#clock = new StageClock('batch-processor', options.metrics.stepSeconds);
    this.#spans = options.tracer.spans('batch.process');
    this.#account = new CostAccount({
      service: 'batch-processor',
      instance: options.instance,
      source: source.name,
      branch: 'batch',
      units: processorUnits,
      stepBytes: options.sliceBytes,
      metrics: options.metrics,
      log: options.log,
    });
    this.#cadence = new Cadence(source.batch, options.now());
    this.#spool = new Spool({
      processor: options.processor,
      directory: options.spoolDirectory,
      fileBytes: options.fileBytes,
    });
  }

  assigned(assigned: readonly AssignedPartition[], context: AssignedContext): void {
    this.#intake.assigned(assigned, context);
    this.#account.restore(
      assigned.map(({ committed }) => costIn(committed?.metadata ?? '')?.cost ?? null),
    );
  }

  /** Everything that isn't committed is read again by whoever gets the partitions. */
  async revoked(): Promise<void> {
    const slices = this.#run?.slices ?? [];
    this.#run = null;
    this.#waitingSince = null;
    this.#showRemaining(0);
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
    if (this.#spool.records > 0) {
      this.#waitingSince ??= now;
    }
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
    const predictedSeconds = this.#runSeconds(records, bytes);
    const since = this.#waitingSince;
    const trigger = this.#cadence.due(
      now,
      bytes,
      since === null ? null : { since, predictedSeconds },
    );
    if (trigger === null) {
      return null;
    }
    this.#cadence.begun(now);
    if (records === 0) {
      return null;
    }
    this.#waitingSince = null;
    const slices = slicesOf(await this.#spool.take(), this.#options.sliceBytes);
    const id = randomUUID();
    this.#showRemaining(predictedSeconds ?? 0);
    if (trigger === 'fresh_within') {
      this.#account.decide('run', 'begin', {
        run: id,
        freshWithinMilliseconds: this.#options.plan.source.batch.freshWithin,
        waitedMilliseconds: since === null ? 0 : now - since,
        predictedSeconds,
        records,
        bytes,
        samples: this.#account.model.samples,
      });
    }
    this.#options.log.info('run begun', {
      source: this.#options.plan.source.name,
      run: id,
      trigger,
      records,
      bytes,
      slices: slices.length,
      predictedSeconds,
    });
    return { id, trigger, startedAt: now, slices, records, storeSeconds: 0, last: null };
  }

  async #storeSlice(run: Run, slice: Slice, context: StepContext): Promise<StepResult> {
    const { plan, processor, metrics } = this.#options;
    const { entries, parts, records, bytes } = slice;
    const stretches = stretchesIn(parts);
    openSpans(this.#spans, 'batch', stretches, run.id);
    this.#account.predict({ bytes, records, rows: null });
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
      // The seconds are of all partitions together: the first partial carries them.
      run: (first) => this.#shareOf(run, first ? share : noShare, null),
      spans: this.#spans,
    });
    const telemetry = this.#addTelemetry(messages, parts[0]?.partition);
    const storeBegun = performance.now();
    return {
      messages,
      offsets: this.#withCost(parts.map(offsetOf)),
      committed: async () => {
        const store = (performance.now() - storeBegun) / 1000;
        run.storeSeconds += store;
        this.#tell(stretches);
        countFates(metrics, plan.source.name, processed);
        this.#clock.add({ ...seconds, store: seconds.store + store });
        this.#clock.count({ bytes, records, rows });
        this.#account.sent(telemetry);
        const ended = this.#clock.end();
        this.#spans.end(ended);
        this.#account.end(ended, tableCosts(processed));
        run.last = parts.find(({ stretch }) => stretch !== null) ?? run.last;
        run.slices.shift();
        this.#showRemaining(
          run.slices.reduce(
            (sum, left) => sum + (this.#runSeconds(left.records, left.bytes) ?? 0),
            0,
          ),
        );
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
    const messages: Message[] = (partial ? encodePartial(partial) : []).map((value) => ({
      topic: this.#topics.results,
      partition: partial?.partition ?? 0,
      value,
    }));
    const telemetry = last && this.#addTelemetry(messages, last.partition);
    return {
      messages,
      offsets: last === null ? [] : this.#withCost([offsetOf(last)]),
      committed: () => {
        this.#account.sent(telemetry);
        this.#run = null;
        this.#showRemaining(0);
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
      run: this.#shareOf(run, { ...noShare, store: run.storeSeconds }, finishedAt),
    };
  }

  #tell(stretches: readonly Stretch[]): void {
    for (const { partition, producedAt } of stretches) {
      this.#options.processed(partition, Number(producedAt));
    }
  }

  /** Seconds that storing spooled records is predicted to take; they are loaded already. null: not known yet. */
  #runSeconds(records: number, bytes: number): number | null {
    const slices = Math.max(1, Math.ceil(bytes / this.#options.sliceBytes));
    const slice = { bytes: bytes / slices, records: records / slices, rows: null };
    const seconds = this.#account.model.predict(slice);
    return seconds && slices * (seconds.preprocess + seconds.process + seconds.store);
  }

  #showRemaining(seconds: number): void {
    const { plan, metrics } = this.#options;
    metrics.runRemainingSeconds.set({ source: plan.source.name }, seconds);
  }

  /** @returns what is `sent` once the transaction is through */
  #addTelemetry(messages: Message[], partition: number | undefined): Telemetry | null {
    const telemetry = partition === undefined ? null : this.#account.unsent();
    if (telemetry !== null && partition !== undefined) {
      messages.push({ topic: this.#topics.results, partition, value: encodeTelemetry(telemetry) });
    }
    return telemetry;
  }

  #withCost(offsets: StepResult['offsets']): StepResult['offsets'] {
    return offsets.map((offset, index) =>
      index === 0
        ? {
            ...offset,
            metadata: withCost(
              offset.metadata ?? '',
              this.#options.instance,
              this.#account.encode(),
            ),
          }
        : offset,
    );
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
    const messages = stretches.flatMap((round) =>
      partialMessages(round, noneProcessed, {
        plan,
        topics: this.#topics,
        branch: 'batch',
        run: () => null,
        spans: this.#spans,
      }),
    );
    const telemetry = this.#addTelemetry(messages, stretches[0]?.[0]?.partition);
    return {
      messages,
      offsets: this.#withCost([...offsets.values()]),
      committed: () => {
        this.#spans.end();
        this.#account.sent(telemetry);
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
