import type { SourcePlan } from '@anabranch/compute';
import { costIn, decodeProcessorPosition } from '@anabranch/contract';
import { processorUnits, shouldDivert, StepModel, sustained } from '@anabranch/cost';
import { latencyGoal } from '@anabranch/definition';
import type { Log, Metrics } from '@anabranch/service';

/** What the stream-processors have committed of one partition. */
export interface StreamPosition {
  readonly partition: number;
  readonly metadata: string;
}

export interface DiversionOptions {
  readonly plan: SourcePlan;
  readonly log: Pick<Log, 'repeat'>;
  readonly metrics: Metrics;
  /** Of all partitions, in whichever order. */
  readonly streamPositions: () => Promise<readonly StreamPosition[]>;
}

/** What the delay was predicted from. */
export interface StreamDelay {
  /** Seconds. */
  readonly delay: number;
  /** Source records that the stream-processors haven't accounted for. */
  readonly backlog: number;
  /** Of all their instances. */
  readonly recordsPerSecond: number;
  readonly instances: number;
}

const askMilliseconds = 500;
/** The stream-processor's default. */
const streamStepBytes = 8 * 1024 * 1024;

/**
 * Decides whether the rules that divert hold. The stream's delay is predicted from what its processors
 * commit: how far each partition is in source offsets, and what a record costs them. Brokers are asked in the
 * background, so that no step waits; without an answer the backlog only grows.
 */
export class Diversion {
  readonly #options: DiversionOptions;
  readonly #goal: number | null;
  /** First source offset that the stream hasn't accounted for, by partition. */
  readonly #accounted = new Map<number, bigint>();
  #perInstance: number | null = null;
  #instances = 1;
  #partitions = 0;
  #askedAt = -Infinity;
  #asking = false;
  #diverting = false;

  constructor(options: DiversionOptions) {
    const { source, tables } = options.plan;
    this.#options = options;
    this.#goal = source.split.some(({ divert }) => divert)
      ? latencyGoal(tables.map(({ table }) => table))
      : null;
  }

  /** Milliseconds; null: no rule diverts. */
  get goal(): number | null {
    return this.#goal;
  }

  /** Goes on as it was committed. */
  restore(diverting: boolean): void {
    this.#diverting = diverting;
    this.#accounted.clear();
    this.#askedAt = -Infinity;
  }

  /**
   * Whether rules that divert hold for what comes after this step.
   * @param positions next source offset of each own partition
   */
  decide(positions: Iterable<readonly [partition: number, next: bigint]>): boolean {
    if (this.#goal === null) {
      return false;
    }
    void this.#ask();
    const delay = this.delay(positions);
    this.#diverting = shouldDivert(this.#diverting, delay?.delay ?? null, this.#goal);
    const { plan, metrics } = this.#options;
    metrics.diverting.set({ source: plan.source.name }, Number(this.#diverting));
    metrics.streamDelaySeconds.set({ source: plan.source.name }, delay?.delay ?? 0);
    return this.#diverting;
  }

  /** null: not known yet. */
  delay(positions: Iterable<readonly [partition: number, next: bigint]>): StreamDelay | null {
    if (this.#perInstance === null) {
      return null;
    }
    let own = 0;
    let backlog = 0;
    for (const [partition, next] of positions) {
      own++;
      backlog += Number(next - (this.#accounted.get(partition) ?? next));
    }
    // The other partitions are other instances' of ingest; the stream-processors have those to do, too.
    const whole = own === 0 ? 0 : backlog * Math.max(1, this.#partitions / own);
    const recordsPerSecond = this.#perInstance * this.#instances;
    return {
      delay: whole / recordsPerSecond,
      backlog: Math.round(whole),
      recordsPerSecond,
      instances: this.#instances,
    };
  }

  /** Asks the brokers, unless that was done a moment ago. */
  async #ask(): Promise<void> {
    const now = performance.now();
    if (this.#asking || now - this.#askedAt < askMilliseconds) {
      return;
    }
    this.#asking = true;
    this.#askedAt = now;
    try {
      this.#learn(await this.#options.streamPositions());
    } catch (error) {
      // What is known stays, and the backlog grows with what is ingested.
      const { plan, log } = this.#options;
      log.repeat('stream-positions', 'warn', 'how far the stream is could not be asked', {
        source: plan.source.name,
        error,
      });
    } finally {
      this.#asking = false;
    }
  }

  #learn(found: readonly StreamPosition[]): void {
    const instances = new Set<string>();
    let model = new StepModel(processorUnits);
    for (const { partition, metadata } of found) {
      const position = decodeProcessorPosition(metadata);
      if (position !== null) {
        this.#accounted.set(partition, position.next);
      }
      const cost = costIn(metadata);
      if (cost !== null) {
        instances.add(cost.by);
        const other = StepModel.decode(cost.cost, processorUnits);
        model = other.samples > model.samples ? other : model;
      }
    }
    this.#partitions = found.length;
    this.#instances = Math.max(1, instances.size);
    this.#perInstance = sustained(model, streamStepBytes) ?? this.#perInstance;
  }
}
