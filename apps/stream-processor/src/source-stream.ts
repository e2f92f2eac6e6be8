import type { Processed, Processor, SourcePlan } from '@anabranch/compute';
import {
  costIn,
  countRecords,
  encodeTelemetry,
  type InternalTopics,
  internalTopics,
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
  roundsOf,
  stretchesOf,
  tableCosts,
  type TextStretch,
} from '@anabranch/processor';
import {
  CostAccount,
  type Log,
  type Metrics,
  StageClock,
  type StepSpans,
  type Tracer,
} from '@anabranch/service';
import { type MicroBatchLimits, MicroBatchPlanner } from './micro-batch-planner.ts';

export interface SourceStreamOptions {
  readonly plan: SourcePlan;
  readonly processor: Processor;
  readonly instance: string;
  readonly log: Log;
  readonly metrics: Metrics;
  /** Of a micro-batch; they follow the latency goal, where a table has one. */
  readonly limits: MicroBatchLimits;
  readonly tracer: Tracer;
  /** Told of what is committed: when the newest record of a partition's blocks had been produced. */
  readonly processed: (partition: number, producedAt: number) => void;
}

/** Turns the stream blocks of one source into partials, a micro-batch at a time. */
export class SourceStream {
  readonly #options: SourceStreamOptions;
  readonly #topics: InternalTopics;
  readonly #intake: BlockIntake;
  readonly #clock: StageClock;
  readonly #spans: StepSpans;
  readonly #account: CostAccount;
  readonly #planner: MicroBatchPlanner;

  constructor(options: SourceStreamOptions) {
    this.#options = options;
    const { source } = options.plan;
    this.#topics = internalTopics(source.topic);
    this.#intake = new BlockIntake(source.name, 'stream', options.metrics);
    this.#clock = new StageClock('stream-processor', options.metrics.stepSeconds);
    this.#account = new CostAccount({
      service: 'stream-processor',
      instance: options.instance,
      source: source.name,
      branch: 'stream',
      units: processorUnits,
      stepBytes: options.limits.stepBytes,
      metrics: options.metrics,
      log: options.log,
    });
    this.#planner = new MicroBatchPlanner(
      options.plan,
      options.limits,
      this.#account,
      options.metrics,
    );
    this.#spans = options.tracer.spans('stream.process');
  }

  assigned(assigned: readonly AssignedPartition[], context: AssignedContext): void {
    this.#intake.assigned(assigned, context);
    this.#account.restore(
      assigned.map(({ committed }) => costIn(committed?.metadata ?? '')?.cost ?? null),
    );
  }

  revoked(): void {
    this.#intake.clear();
    this.#spans.abandon();
  }

  step(work: readonly PartitionWork[], context: StepContext): Promise<StepResult | null> {
    return this.#spans.during(() => this.#step(work, context));
  }

  async #step(work: readonly PartitionWork[], context: StepContext): Promise<StepResult | null> {
    const { plan, instance, metrics, processed: told } = this.#options;
    const source = plan.source.name;
    const taken = await this.#clock.stage('load', () =>
      Promise.resolve(this.#intake.take(work, context)),
    );
    if (taken.length === 0) {
      return null;
    }
    const stretches = taken.map(({ partition, blocks }) => stretchesOf(partition, blocks));
    openSpans(this.#spans, 'stream', stretches.flat());
    this.#account.predict(sizeOf(stretches.flatMap((all) => all.flatMap(({ texts }) => texts))));
    const results: Processed[] = [];
    const messages: Message[] = [];
    for (const round of roundsOf(stretches)) {
      const processed = await this.#process(round);
      results.push(processed);
      messages.push(
        ...partialMessages(round, processed, {
          plan,
          topics: this.#topics,
          branch: 'stream',
          run: () => null,
          spans: this.#spans,
        }),
      );
    }
    const telemetry = this.#account.unsent();
    if (telemetry !== null) {
      messages.push({
        topic: this.#topics.results,
        partition: taken[0]?.partition ?? 0,
        value: encodeTelemetry(telemetry),
      });
    }
    const encodedAt = performance.now();
    return {
      messages,
      offsets: taken.map(({ topic, partition, offset, metadata }, index) => ({
        topic,
        partition,
        offset,
        metadata: index === 0 ? withCost(metadata, instance, this.#account.encode()) : metadata,
      })),
      committed: () => {
        for (const { partition, producedAt } of stretches.flat()) {
          told(partition, Number(producedAt));
        }
        for (const processed of results) {
          countFates(metrics, source, processed);
        }
        this.#clock.add({ store: (performance.now() - encodedAt) / 1000 });
        const ended = this.#clock.end();
        this.#spans.end(ended);
        this.#account.sent(telemetry);
        this.#account.end(ended, results.flatMap(tableCosts));
        this.#planner.plan();
      },
    };
  }

  async #process(round: readonly TextStretch[]): Promise<Processed> {
    const texts = round.flatMap((stretch) => stretch.texts);
    if (texts.length === 0) {
      return noneProcessed;
    }
    const processed = await this.#options.processor.process(texts);
    this.#clock.add(processed.seconds);
    this.#clock.count({
      ...sizeOf(texts),
      rows: processed.tables.reduce((sum, { rows }) => sum + rows, 0),
    });
    return processed;
  }
}

function sizeOf(texts: TextStretch['texts']): { bytes: number; records: number; rows: null } {
  return {
    bytes: texts.reduce((sum, { text }) => sum + text.length, 0),
    records: texts.reduce((sum, { runs }) => sum + countRecords(runs), 0),
    rows: null,
  };
}
