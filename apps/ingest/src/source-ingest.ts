import type { Classified, Classifier, RecordBlock, SourcePlan } from '@anabranch/compute';
import {
  type Block,
  decodeIngestPosition,
  encodeBlock,
  encodeDeadLetters,
  encodeIngestPosition,
  type InternalTopics,
  internalTopics,
} from '@anabranch/contract';
import { ceiling, highestWhenIdle, later, watermark } from '@anabranch/coverage';
import {
  type AssignedContext,
  type AssignedPartition,
  KafkaError,
  type PartitionWork,
  type StepContext,
  type StepResult,
} from '@anabranch/kafka';
import { type Metrics, StageClock } from '@anabranch/service';
import { splitLines } from './blocks.ts';
import { deadLetters } from './dead-letters.ts';
import { type Lines, readLines } from './lines.ts';

export interface SourceIngestOptions {
  readonly plan: SourcePlan;
  readonly classifier: Classifier;
  readonly metrics: Metrics;
  /** Sees to it that the internal topics exist, with as many partitions as the source. */
  readonly prepareTopics: () => Promise<void>;
  /** Told of what is committed: when the newest record of a partition's share had been produced. */
  readonly processed: (partition: number, producedAt: number) => void;
  /** Milliseconds since 1970. */
  readonly now: () => number;
}

/** What is committed with the offsets of a partition, and when it was last heard of. */
interface PartitionState {
  readonly origin: bigint;
  readonly highest: bigint | null;
  /** Source offset that comes next. */
  readonly next: bigint;
  readonly activeAt: number;
}

/** An idle partition's watermark follows the clock in strides no shorter than this. */
const shortestIdleStride = 1000;

/**
 * Splits one source: reads records, decides for each which branch it takes or why it is dead, and
 * writes a block to each branch for every range that it commits.
 */
export class SourceIngest {
  readonly #options: SourceIngestOptions;
  readonly #topics: InternalTopics;
  readonly #partitions = new Map<number, PartitionState>();
  readonly #clock: StageClock;
  readonly #ruleNames: readonly string[];

  constructor(options: SourceIngestOptions) {
    this.#options = options;
    const { source } = options.plan;
    this.#topics = internalTopics(source.topic);
    this.#clock = new StageClock('ingest', options.metrics.stepSeconds);
    this.#ruleNames = [...source.split.map(({ name }) => name), 'default'];
  }

  async assigned(assigned: readonly AssignedPartition[], context: AssignedContext): Promise<void> {
    this.revoked();
    await this.#options.prepareTopics();
    for (const { topic, partition, committed, earliest } of assigned) {
      const position =
        committed === null
          ? { origin: earliest, highest: null }
          : decodeIngestPosition(committed.metadata);
      if (position === null) {
        context.halt(
          topic,
          partition,
          `the group's offset ${committed?.offset} was not committed by ingest: coverage can't be proved from it. Restore the offset with its metadata, or start over with new topics.`,
        );
        continue;
      }
      this.#partitions.set(partition, {
        ...position,
        next: committed?.offset ?? earliest,
        activeAt: this.#options.now(),
      });
    }
  }

  revoked(): void {
    this.#partitions.clear();
  }

  async step(work: readonly PartitionWork[], context: StepContext): Promise<StepResult | null> {
    const now = this.#options.now();
    const shares = await this.#clock.stage('load', () =>
      Promise.resolve(this.#read(work, context)),
    );
    const verdicts = await this.#clock.stage('process', () => this.#classify(shares, now));
    const result: Result = { messages: [], offsets: [] };
    const moved = new Map<number, PartitionState>();
    await this.#clock.stage('store', () => {
      shares.forEach((share, i) => {
        const verdict = verdicts[i];
        if (verdict !== undefined) {
          moved.set(share.work.partition, this.#write(share, verdict, now, result));
        }
      });
      this.#followClock(moved, now, result);
      return Promise.resolve();
    });
    if (result.offsets.length === 0) {
      return null;
    }
    return {
      ...result,
      // Only once the transaction is through: until then a replay decides on the former state.
      committed: () => {
        for (const [partition, state] of moved) {
          this.#partitions.set(partition, state);
        }
        for (const { work, lines } of shares) {
          this.#options.processed(work.partition, lines.producedAt);
        }
        if (shares.length > 0) {
          this.#clock.end();
        }
      },
    };
  }

  #read(work: readonly PartitionWork[], context: StepContext): Share[] {
    const { source, headerNames } = this.#options.plan;
    const shares: Share[] = [];
    for (const piece of work) {
      const state = this.#partitions.get(piece.partition);
      if (state === undefined) {
        continue;
      }
      try {
        const lines = readLines(piece.batches, {
          from: state.next,
          maxRecordBytes: source.maxRecordBytes,
          headerNames,
        });
        shares.push({ work: piece, state, lines });
        this.#clock.count({ bytes: piece.bytes, records: lines.count + lines.refused.length });
      } catch (error) {
        // A batch that can't be read (a wrong checksum, say) can't be skipped: nobody would know
        // which records were lost. The other partitions go on.
        if (!(error instanceof KafkaError)) {
          throw error;
        }
        context.halt(piece.topic, piece.partition, error.message);
      }
    }
    return shares;
  }

  async #classify(shares: readonly Share[], now: number): Promise<Classified[]> {
    const { plan, classifier } = this.#options;
    const blocks = shares.map(({ work, state, lines }): RecordBlock => ({
      partition: work.partition,
      text: lines.text,
      count: lines.count,
      highest: state.highest,
      timestamps: plan.usesTimestamps ? lines.timestamps : null,
      headers: lines.headers,
      sizes: lines.sizes,
    }));
    return blocks.length === 0
      ? []
      : classifier.classify(blocks, ceiling(now, plan.source.maxSkew));
  }

  #write(
    { work, state, lines }: Share,
    verdict: Classified,
    now: number,
    result: Result,
  ): PartitionState {
    const { plan, metrics } = this.#options;
    const { source } = plan;
    const { partition, topic, batches, next } = work;
    const split = splitLines(lines, verdict, source.defaultBranch);
    const highest = later(state.highest, verdict.highest);
    const coverage = {
      source: source.name,
      partition,
      origin: state.origin,
      from: state.next,
      to: next,
      epoch: 0n,
      watermark: watermark(highest, source.disorder),
      definition: source.hash,
      split: split.counts,
      producedAt: BigInt(lines.producedAt),
    };
    for (const branch of ['stream', 'batch'] as const) {
      result.messages.push(
        message(this.#topics[branch], partition, { ...coverage, ...split[branch] }),
      );
      metrics.recordsTotal.inc({ source: source.name, fate: branch }, Number(split.counts[branch]));
    }
    metrics.blocksTotal.inc({ fate: 'written' }, 2);
    if (split.counts.dead > 0n) {
      metrics.recordsTotal.inc({ source: source.name, fate: 'dead' }, Number(split.counts.dead));
      const letters = deadLetters(batches, lines, verdict);
      for (const value of encodeDeadLetters({ source: source.name, partition, letters })) {
        result.messages.push({ topic: this.#topics.dead, partition, value });
      }
    }
    verdict.rules.forEach((records, rule) => {
      const branch = source.split[rule]?.to ?? source.defaultBranch;
      metrics.splitRecordsTotal.inc(
        { source: source.name, rule: this.#ruleNames[rule] ?? 'default', branch },
        records,
      );
    });
    result.offsets.push({
      topic,
      partition,
      offset: next,
      metadata: encodeIngestPosition({ origin: state.origin, highest }),
    });
    return { ...state, next, highest, activeAt: now };
  }

  /** Lets the watermarks of partitions that have been silent for the idle timeout follow the clock. */
  #followClock(moved: Map<number, PartitionState>, now: number, result: Result): void {
    const { source } = this.#options.plan;
    const { idleTimeout } = source;
    if (idleTimeout === null) {
      return;
    }
    for (const [partition, state] of this.#partitions) {
      if (
        moved.has(partition) ||
        now - state.activeAt < Math.max(idleTimeout, shortestIdleStride)
      ) {
        continue;
      }
      const highest = highestWhenIdle(state.highest, now, idleTimeout);
      const block: Block = {
        source: source.name,
        partition,
        origin: state.origin,
        from: state.next,
        to: state.next,
        epoch: 0n,
        watermark: watermark(highest, source.disorder),
        definition: source.hash,
        split: { stream: 0n, batch: 0n, dead: 0n, rules: this.#ruleNames.map(() => 0n) },
        producedAt: 0n,
        runs: [],
        altered: [],
        payload: Buffer.alloc(0),
      };
      result.messages.push(
        message(this.#topics.stream, partition, block),
        message(this.#topics.batch, partition, block),
      );
      result.offsets.push({
        topic: source.topic,
        partition,
        offset: state.next,
        metadata: encodeIngestPosition({ origin: state.origin, highest }),
      });
      moved.set(partition, { ...state, highest, activeAt: now });
    }
  }
}

/** Grows while a step is written. */
interface Result {
  readonly messages: StepResult['messages'][number][];
  readonly offsets: StepResult['offsets'][number][];
}

interface Share {
  readonly work: PartitionWork;
  readonly state: PartitionState;
  readonly lines: Lines;
}

const message = (
  topic: string,
  partition: number,
  block: Block,
): StepResult['messages'][number] => ({
  topic,
  partition,
  value: encodeBlock(block),
});
