import type { Processed, Processor, SourcePlan } from '@anabranch/compute';
import {
  countRecords,
  type InternalTopics,
  internalTopics,
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
  type Message,
  noneProcessed,
  openSpans,
  partialMessages,
  roundsOf,
  stretchesOf,
  type TextStretch,
} from '@anabranch/processor';
import { type Metrics, StageClock, type StepSpans, type Tracer } from '@anabranch/service';

export interface SourceStreamOptions {
  readonly plan: SourcePlan;
  readonly processor: Processor;
  readonly instance: string;
  readonly metrics: Metrics;
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
  /** Of steps whose transaction is through, to be sent with the next partial. */
  #costs: readonly StepCost[] = [];

  constructor(options: SourceStreamOptions) {
    this.#options = options;
    const { source } = options.plan;
    this.#topics = internalTopics(source.topic);
    this.#intake = new BlockIntake(source.name, 'stream', options.metrics);
    this.#clock = new StageClock('stream-processor', options.metrics.stepSeconds);
    this.#spans = options.tracer.spans('stream.process');
  }

  assigned(assigned: readonly AssignedPartition[], context: AssignedContext): void {
    this.#intake.assigned(assigned, context);
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
          costs: results.length === 1 ? this.#costs : [],
          run: () => null,
          spans: this.#spans,
        }),
      );
    }
    const encodedAt = performance.now();
    return {
      messages,
      offsets: taken.map(({ topic, partition, offset, metadata }) => ({
        topic,
        partition,
        offset,
        metadata,
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
        const cost = stepCost(ended, { instance, source, branch: 'stream' });
        // Without a message there was no partial to send the former ones with.
        this.#costs = messages.length === 0 ? [...this.#costs, cost] : [cost];
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
      bytes: texts.reduce((sum, { text }) => sum + text.length, 0),
      records: texts.reduce((sum, { runs }) => sum + countRecords(runs), 0),
      rows: processed.tables.reduce((sum, { rows }) => sum + rows, 0),
    });
    return processed;
  }
}
