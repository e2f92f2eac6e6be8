import type { Classified, Classifier, RecordBlock, SourcePlan } from '@anabranch/compute';
import {
  type Block,
  costIn,
  type Coverage,
  decodeIngestPosition,
  encodeBlock,
  encodeDeadLetters,
  encodeIngestPosition,
  encodeTelemetry,
  type InternalTopics,
  internalTopics,
  type Telemetry,
  withCost,
} from '@anabranch/contract';
import { ingestUnits } from '@anabranch/cost';
import { ceiling, CoverageError, highestWhenIdle, later, watermark } from '@anabranch/coverage';
import {
  type AssignedContext,
  type AssignedPartition,
  KafkaError,
  type PartitionWork,
  type StepContext,
  type StepResult,
} from '@anabranch/kafka';
import {
  CostAccount,
  type Log,
  type Metrics,
  rangeAttributes,
  StageClock,
  type StepSpans,
  traceHeader,
  type Tracer,
} from '@anabranch/service';
import { type Split, splitLines } from './blocks.ts';
import { deadLetters, deathsOf } from './dead-letters.ts';
import { Diversion, type StreamPosition } from './diversion.ts';
import { type Lines, readLines } from './lines.ts';
import { producerLinks } from './producer-links.ts';

export interface SourceIngestOptions {
  readonly plan: SourcePlan;
  readonly classifier: Classifier;
  readonly instance: string;
  readonly log: Pick<Log, 'info' | 'repeat'>;
  readonly metrics: Metrics;
  readonly tracer: Tracer;
  /** Sees to it that the internal topics exist, with as many partitions as the source. */
  readonly prepareTopics: () => Promise<void>;
  /** The offset behind the last record of each partition of the source. */
  readonly ends: () => Promise<ReadonlyMap<number, bigint>>;
  /** What the stream-processors have committed of each partition. */
  readonly streamPositions: () => Promise<readonly StreamPosition[]>;
  /** Told of what is committed: when the newest record of a partition's share had been produced. */
  readonly processed: (partition: number, producedAt: number) => void;
  /** Milliseconds since 1970. */
  readonly now: () => number;
  /** About the size of a block's text: a share that decompresses to more becomes several blocks. */
  readonly blockBytes: number;
  /** Of the largest step. */
  readonly stepBytes: number;
}

/** What is committed with the offsets of a partition, and when it was last heard of. */
interface PartitionState {
  readonly origin: bigint;
  readonly highest: bigint | null;
  /** Rules that divert hold for what comes next. */
  readonly diverting: boolean;
  readonly epoch: bigint;
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
  readonly #spans: StepSpans;
  readonly #account: CostAccount;
  readonly #diversion: Diversion;
  readonly #ruleNames: readonly string[];
  #ends: Ends | null = null;
  #asking = false;

  constructor(options: SourceIngestOptions) {
    this.#options = options;
    const { source } = options.plan;
    this.#topics = internalTopics(source.topic);
    this.#clock = new StageClock('ingest', options.metrics.stepSeconds);
    this.#account = new CostAccount({
      service: 'ingest',
      instance: options.instance,
      source: source.name,
      branch: null,
      units: ingestUnits,
      stepBytes: options.stepBytes,
      metrics: options.metrics,
      log: options.log,
    });
    this.#diversion = new Diversion(options);
    this.#spans = options.tracer.spans('ingest.step');
    this.#ruleNames = [...source.split.map(({ name }) => name), 'default'];
  }

  async assigned(assigned: readonly AssignedPartition[], context: AssignedContext): Promise<void> {
    this.revoked();
    await this.#options.prepareTopics();
    this.#account.restore(
      assigned.map(({ committed }) => costIn(committed?.metadata ?? '')?.cost ?? null),
    );
    for (const { topic, partition, committed, earliest } of assigned) {
      const position =
        committed === null
          ? // Kafka forgets the offsets of a topic that is deleted. If it is there again, what has its
            // offsets is something else, and no replay: the processors tell by the epoch.
            {
              origin: earliest,
              highest: null,
              diverting: false,
              epoch: BigInt(this.#options.now()),
            }
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
    this.#diversion.restore([...this.#partitions.values()].some(({ diverting }) => diverting));
  }

  revoked(): void {
    this.#partitions.clear();
    this.#account.forgetDecisions();
    this.#ends = null;
    this.#spans.abandon();
  }

  step(work: readonly PartitionWork[], context: StepContext): Promise<StepResult | null> {
    return this.#spans.during(() => this.#step(work, context));
  }

  async #step(work: readonly PartitionWork[], context: StepContext): Promise<StepResult | null> {
    const now = this.#options.now();
    this.#account.predict({
      bytes: work.reduce((sum, { bytes }) => sum + bytes, 0),
      records: work.reduce((sum, { from, next }) => sum + Number(next - from), 0),
      rows: null,
    });
    const shares = await this.#clock.stage('load', () =>
      Promise.resolve(this.#read(work, context)),
    );
    this.#openSpans(shares);
    await this.#clock.stage('process', () => this.#classify(shares, now));
    const result: Result = { messages: [], offsets: [] };
    const moved = new Map<number, PartitionState>();
    const diverting = this.#divert(shares);
    await this.#clock.stage('store', () => {
      for (const share of shares) {
        moved.set(share.work.partition, this.#write(share, now, diverting, result));
      }
      this.#followClock(moved, now, context, result);
      return Promise.resolve();
    });
    if (result.offsets.length === 0) {
      return null;
    }
    const telemetry = this.#addTelemetry(result);
    const writtenAt = performance.now();
    return {
      ...result,
      // Only once the transaction is through: until then a replay decides on the former state.
      committed: () => {
        for (const [partition, state] of moved) {
          this.#partitions.set(partition, state);
        }
        for (const share of shares) {
          this.#tell(share, now);
        }
        this.#account.sent(telemetry);
        if (shares.length > 0) {
          this.#clock.add({ store: (performance.now() - writtenAt) / 1000 });
          const ended = this.#clock.end();
          this.#spans.end(ended);
          this.#account.end(ended);
        }
      },
    };
  }

  /** Decides for what comes next; where that differs from before, it is noted with the figures. */
  #divert(shares: readonly Share[]): boolean {
    const positions = [...this.#partitions].map(
      ([partition, { next }]) => [partition, next] as const,
    );
    const diverting = this.#diversion.decide(positions);
    const changed = shares.filter(({ state }) => state.diverting !== diverting);
    if (changed.length > 0) {
      this.#account.decide('divert', diverting ? 'on' : 'off', {
        goalMilliseconds: this.#diversion.goal,
        ...this.#diversion.delay(positions),
        from: Object.fromEntries(changed.map(({ work }) => [work.partition, work.next.toString()])),
      });
    }
    return diverting;
  }

  /** @returns what is `sent` once the transaction is through */
  #addTelemetry({ messages, offsets }: Result): Telemetry | null {
    const [first] = offsets;
    if (first === undefined) {
      return null;
    }
    const { instance } = this.#options;
    const metadata = withCost(first.metadata ?? '', instance, this.#account.encode());
    offsets[0] = { ...first, metadata };
    const telemetry = this.#account.unsent();
    if (telemetry !== null) {
      const value = encodeTelemetry(telemetry);
      messages.push({ topic: this.#topics.results, partition: first.partition, value });
    }
    return telemetry;
  }

  #read(work: readonly PartitionWork[], context: StepContext): Share[] {
    const { plan, blockBytes } = this.#options;
    const shares: Share[] = [];
    for (const piece of work) {
      const { topic, partition, batches, from, next, bytes } = piece;
      const state = this.#partitions.get(partition);
      if (state === undefined) {
        continue;
      }
      try {
        if (from !== state.next) {
          throw new CoverageError(
            'GAP',
            `${topic}/${partition}: records from offset ${from} were handed over, but ${state.next} comes next.`,
          );
        }
        const pieces = readLines(batches, {
          from,
          to: next,
          maxRecordBytes: plan.source.maxRecordBytes,
          headerNames: plan.headerNames,
          maxTextBytes: blockBytes,
        });
        shares.push({
          work: piece,
          state,
          pieces,
          highest: state.highest,
          verdicts: [],
          splits: [],
        });
        for (const { count, refused } of pieces) {
          this.#clock.count({ records: count + refused.length });
        }
        this.#clock.count({ bytes });
      } catch (error) {
        // A batch that can't be read (a wrong checksum, say) can't be skipped: nobody would know
        // which records were lost. The other partitions go on.
        if (!(error instanceof KafkaError || error instanceof CoverageError)) {
          throw error;
        }
        this.#partitions.delete(partition);
        context.halt(topic, partition, error.message);
      }
    }
    return shares;
  }

  /** A block of an idle partition has no trace: it covers no record. */
  #openSpans(shares: readonly Share[]): void {
    const { tracer, plan } = this.#options;
    const source = plan.source.name;
    for (const { work, pieces } of shares) {
      const { partition, batches } = work;
      for (const lines of pieces) {
        const { from, to, count, refused, text } = lines;
        const trace = tracer.sample(source, partition, from);
        if (trace !== null) {
          this.#spans.root(lines, trace, producerLinks(batches, lines), {
            ...rangeAttributes({ source, partition, from, to }),
            'anabranch.records': BigInt(count + refused.length),
            'anabranch.bytes': BigInt(text.length),
          });
        }
      }
    }
  }

  /**
   * One query for all partitions; as many as the partition with the most pieces has, since a piece is
   * judged on the event times in front of it.
   */
  async #classify(shares: readonly Share[], now: number): Promise<void> {
    const { plan, classifier } = this.#options;
    for (let round = 0; ; round++) {
      const asked: Share[] = [];
      const blocks: RecordBlock[] = [];
      let more = false;
      for (const share of shares) {
        const lines = share.pieces[round];
        more ||= round + 1 < share.pieces.length;
        if (lines === undefined || lines.count === 0) {
          continue;
        }
        asked.push(share);
        blocks.push({
          partition: share.work.partition,
          text: lines.text,
          count: lines.count,
          highest: share.highest,
          diverting: share.state.diverting,
          timestamps: plan.usesTimestamps ? lines.timestamps : null,
          headers: lines.headers,
          sizes: plan.usesBytes ? lines.sizes : null,
        });
      }
      const verdicts =
        blocks.length === 0
          ? []
          : await classifier.classify(blocks, ceiling(now, plan.source.maxSkew));
      asked.forEach((share, i) => {
        const verdict = verdicts[i];
        if (verdict !== undefined) {
          share.verdicts[round] = verdict;
          share.highest = later(share.highest, verdict.highest);
        }
      });
      if (!more) {
        return;
      }
    }
  }

  /** @returns the partition's state once this is committed */
  #write(share: Share, now: number, diverting: boolean, result: Result): PartitionState {
    const { source } = this.#options.plan;
    const { work, state, pieces, verdicts, splits } = share;
    const { partition, topic, batches, next } = work;
    const deaths: ReturnType<typeof deathsOf>[] = [];
    let { highest } = state;
    pieces.forEach((lines, i) => {
      const verdict = verdicts[i] ?? this.#unasked();
      highest = later(highest, verdict.highest);
      const split = splitLines(lines, verdict, source.defaultBranch);
      splits.push(split);
      deaths.push(deathsOf(lines, verdict));
      const coverage = {
        ...this.#coverage(partition, state, highest),
        from: lines.from,
        to: lines.to,
        split: split.counts,
        // A producer's clock may say anything.
        producedAt: BigInt(Math.min(lines.producedAt, now)),
      };
      for (const branch of ['stream', 'batch'] as const) {
        result.messages.push(
          message(
            this.#topics[branch],
            partition,
            { ...coverage, ...split[branch] },
            this.#spans.traceparent(lines),
          ),
        );
      }
    });
    const letters = deadLetters(batches, new Map(deaths.flatMap((some) => [...some])));
    for (const value of encodeDeadLetters({ source: source.name, partition, letters })) {
      result.messages.push({ topic: this.#topics.dead, partition, value });
    }
    result.offsets.push({
      topic,
      partition,
      offset: next,
      metadata: encodeIngestPosition({ ...state, highest, diverting }),
    });
    return { ...state, next, highest, diverting, activeAt: now };
  }

  /** The verdict on lines that there are none of. */
  #unasked(): Classified {
    return {
      partition: -1,
      highest: null,
      rules: this.#ruleNames.map(() => 0),
      dead: 0,
      exceptions: { positions: new Uint32Array(), verdicts: new Int16Array() },
      reasons: [],
    };
  }

  #coverage(
    partition: number,
    { origin, epoch }: PartitionState,
    highest: bigint | null,
  ): Omit<Coverage, 'from' | 'to' | 'split'> {
    const { source } = this.#options.plan;
    return {
      source: source.name,
      partition,
      origin,
      epoch,
      watermark: watermark(highest, source.disorder),
      definition: source.hash,
    };
  }

  /** Counts what is committed. */
  #tell({ work, pieces, splits, verdicts }: Share, now: number): void {
    const { metrics, plan, processed } = this.#options;
    const { name, split: rules, defaultBranch } = plan.source;
    for (const { counts } of splits) {
      for (const fate of ['stream', 'batch', 'dead'] as const) {
        metrics.recordsTotal.inc({ source: name, fate }, Number(counts[fate]));
      }
    }
    metrics.blocksTotal.inc({ fate: 'written' }, 2 * splits.length);
    for (const verdict of verdicts) {
      verdict?.rules.forEach((records, rule) => {
        metrics.splitRecordsTotal.inc(
          {
            source: name,
            rule: this.#ruleNames[rule] ?? 'default',
            branch: rules[rule]?.to ?? defaultBranch,
          },
          records,
        );
      });
    }
    const newest = pieces.reduce((most, { producedAt }) => Math.max(most, producedAt), 0);
    processed(work.partition, Math.min(newest, now));
  }

  /**
   * Lets the watermarks of partitions that have been silent for the idle timeout follow the clock. That
   * no record came says little: other partitions may have had their turn, or the partition's leader
   * may be away. So the brokers are asked, without holding up a step for it, and only a partition of
   * which everything was read counts as idle, up to the moment in which they were asked.
   */
  #followClock(
    moved: Map<number, PartitionState>,
    now: number,
    context: StepContext,
    result: Result,
  ): void {
    const { source } = this.#options.plan;
    const { idleTimeout } = source;
    if (idleTimeout === null) {
      return;
    }
    const patience = Math.max(idleTimeout, shortestIdleStride);
    const silent = [...this.#partitions].filter(
      ([partition, { activeAt }]) => !moved.has(partition) && now - activeAt >= patience,
    );
    const ends = this.#ends;
    this.#ends = null;
    if (silent.length > 0 && ends === null) {
      void this.#askForEnds(now, context);
      return;
    }
    for (const [partition, state] of silent) {
      if (ends?.offsets.get(partition) !== state.next) {
        this.#partitions.set(partition, { ...state, activeAt: now });
        continue;
      }
      const highest = highestWhenIdle(state.highest, ends.at, idleTimeout);
      const block: Block = {
        ...this.#coverage(partition, state, highest),
        from: state.next,
        to: state.next,
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
        metadata: encodeIngestPosition({ ...state, highest }),
      });
      moved.set(partition, { ...state, highest, activeAt: now });
    }
  }

  async #askForEnds(at: number, context: StepContext): Promise<void> {
    if (this.#asking) {
      return;
    }
    this.#asking = true;
    try {
      this.#ends = { at, offsets: await this.#options.ends() };
      context.wake();
    } catch {
      // A leader is away: until it is back, nobody knows what it has, and the watermarks wait.
    } finally {
      this.#asking = false;
    }
  }
}

/** The offsets behind the last records, or later ones, that the partitions had at a time; records in open transactions included. */
interface Ends {
  /** Milliseconds since 1970. */
  readonly at: number;
  readonly offsets: ReadonlyMap<number, bigint>;
}

/** Grows while a step is written. */
interface Result {
  readonly messages: StepResult['messages'][number][];
  readonly offsets: StepResult['offsets'][number][];
}

/** What a step does with one partition, as far as it has come. */
interface Share {
  readonly work: PartitionWork;
  readonly state: PartitionState;
  readonly pieces: readonly Lines[];
  /** Largest event time of the pieces that have been judged. */
  highest: bigint | null;
  /** Of the pieces; none for a piece without a line. */
  readonly verdicts: (Classified | undefined)[];
  readonly splits: Split[];
}

const message = (
  topic: string,
  partition: number,
  block: Block,
  trace?: string,
): StepResult['messages'][number] => ({
  topic,
  partition,
  value: encodeBlock(block),
  ...(trace !== undefined && { headers: { [traceHeader]: trace } }),
});
