import type { Processor, SourcePlan } from '@anabranch/compute';
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
import { BlockIntake, partialMessages, type PartitionBlocks, roundsOf } from '@anabranch/processor';
import { type Metrics, StageClock } from '@anabranch/service';

export interface SourceStreamOptions {
  readonly plan: SourcePlan;
  readonly processor: Processor;
  readonly instance: string;
  readonly metrics: Metrics;
  /** Told of what is committed: when the newest record of a partition's blocks had been produced. */
  readonly processed: (partition: number, producedAt: number) => void;
}

/** Turns the stream blocks of one source into partials, a micro-batch at a time. */
export class SourceStream {
  readonly #options: SourceStreamOptions;
  readonly #topics: InternalTopics;
  readonly #intake: BlockIntake;
  readonly #clock: StageClock;
  /** Of steps whose transaction is through, to be sent with the next partial. */
  #costs: StepCost[] = [];

  constructor(options: SourceStreamOptions) {
    this.#options = options;
    const { source } = options.plan;
    this.#topics = internalTopics(source.topic);
    this.#intake = new BlockIntake(source.name, 'stream', options.metrics);
    this.#clock = new StageClock('stream-processor', options.metrics.stepSeconds);
  }

  assigned(assigned: readonly AssignedPartition[], context: AssignedContext): void {
    this.#intake.assigned(assigned, context);
  }

  revoked(): void {
    this.#intake.clear();
  }

  async step(work: readonly PartitionWork[], context: StepContext): Promise<StepResult | null> {
    const { plan } = this.#options;
    const taken = await this.#clock.stage('load', () =>
      Promise.resolve(this.#intake.take(work, context)),
    );
    if (taken.length === 0) {
      return null;
    }
    const messages: StepResult['messages'][number][] = [];
    for (const round of roundsOf(taken)) {
      messages.push(...(await this.#process(round)));
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
        for (const { partition, blocks } of taken) {
          this.#options.processed(partition, Number(blocks.at(-1)?.producedAt ?? 0n));
        }
        this.#clock.add({ store: (performance.now() - encodedAt) / 1000 });
        const where = {
          instance: this.#options.instance,
          source: plan.source.name,
          branch: 'stream' as const,
        };
        this.#costs = [stepCost(this.#clock.end(), where)];
      },
    };
  }

  async #process(round: readonly PartitionBlocks[]): Promise<StepResult['messages'][number][]> {
    const { plan, processor, metrics } = this.#options;
    const texts = round.flatMap(({ partition, blocks }) =>
      blocks.map(({ payload, runs }) => ({ partition, text: payload, runs: [...runs] })),
    );
    const processed = await processor.process(texts);
    this.#clock.add(processed.seconds);
    this.#clock.count({
      bytes: texts.reduce((sum, { text }) => sum + text.length, 0),
      records: texts.reduce((sum, { runs }) => sum + countRecords(runs), 0),
      rows: processed.tables.reduce((sum, { rows }) => sum + rows, 0),
    });
    for (const { name: table, aggregated, filtered, dead } of processed.tables) {
      metrics.recordsTotal.inc({ source: plan.source.name, table, fate: 'aggregated' }, aggregated);
      metrics.recordsTotal.inc({ source: plan.source.name, table, fate: 'filtered' }, filtered);
      metrics.recordsTotal.inc({ source: plan.source.name, table, fate: 'dead' }, dead);
    }
    return partialMessages(round, processed, {
      plan,
      topics: this.#topics,
      branch: 'stream',
      costs: this.#costs.splice(0),
      run: () => null,
    });
  }
}
