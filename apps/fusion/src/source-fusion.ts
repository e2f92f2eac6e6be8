import type { SourcePlan } from '@anabranch/compute';
import {
  ContractError,
  costIn,
  decodeDeadLetters,
  decodeTelemetry,
  type DeadLetters,
  type InternalTopics,
  internalTopics,
  isTelemetry,
  type Partial,
  PartialAssembler,
  type Telemetry,
  withCost,
} from '@anabranch/contract';
import { fusionUnits } from '@anabranch/cost';
import {
  type AssignedPartition,
  KafkaError,
  type PartitionWork,
  type StartOffset,
  type StepContext,
  type StepResult,
  walk,
} from '@anabranch/kafka';
import {
  advanceFinalWatermark,
  claimFrontier,
  errorCode,
  isCollision,
  isRetriable,
  isUnavailable,
  type Position,
  readPositions,
  recordConflict,
  refusalReason,
  setPartitions,
  storeDeadLetters,
  storeTelemetry,
  transaction,
} from '@anabranch/postgres';
import {
  CostAccount,
  type Log,
  type Metrics,
  rangeAttributes,
  readTraceparent,
  StageClock,
  type StepSpans,
  type Tracer,
} from '@anabranch/service';
import type pg from 'pg';
import { merge } from './merge.ts';
import {
  judgePartials,
  type Misfit,
  PartitionFrontiers,
  type Share,
} from './partition-frontiers.ts';

export interface SourceFusionOptions {
  readonly plan: SourcePlan;
  readonly pool: pg.Pool;
  readonly instance: string;
  readonly log: Log;
  readonly metrics: Metrics;
  readonly tracer: Tracer;
  /** How many partitions the source's topic has now. */
  readonly countPartitions: () => Promise<number>;
  /** Told of what is committed: when the newest record of a partition's partials had been produced. */
  readonly processed: (partition: number, producedAt: number) => void;
}

/** A deadlock or serialization failure changed nothing: the same transaction is tried this often. */
const attempts = 5;
/** About the largest step that gathers while another one is stored. */
const largestStepBytes = 16 * 1024 * 1024;

/** Of the group's offsets, which only show how far it is. */
const hint = 'fusion';

/**
 * Joins the branches of one source: takes the partials and dead letters of the partitions that this
 * instance is assigned, applies the merge law, and writes to Postgres what it lets through.
 */
export class SourceFusion {
  readonly #options: SourceFusionOptions;
  readonly #topics: InternalTopics;
  readonly #frontiers = new PartitionFrontiers();
  readonly #clock: StageClock;
  readonly #spans: StepSpans;
  #assemblers = new Map<number, PartialAssembler>();
  readonly #account: CostAccount;

  constructor(options: SourceFusionOptions) {
    this.#options = options;
    this.#topics = internalTopics(options.plan.source.topic);
    this.#clock = new StageClock('fusion', options.metrics.stepSeconds);
    this.#account = new CostAccount({
      service: 'fusion',
      instance: options.instance,
      source: options.plan.source.name,
      branch: null,
      units: fusionUnits,
      stepBytes: largestStepBytes,
      metrics: options.metrics,
      log: options.log,
    });
    this.#spans = options.tracer.spans('fusion.commit');
  }

  /**
   * Claims the partitions: from here on a former owner is refused.
   * @returns where to read on, as stored in the transactions that applied what was read before
   */
  async assigned(assigned: readonly AssignedPartition[]): Promise<StartOffset[]> {
    this.revoked();
    this.#account.restore(
      assigned.map(({ committed }) => costIn(committed?.metadata ?? '')?.cost ?? null),
    );
    try {
      return await this.#claim(assigned);
    } catch (error) {
      throw stepError(error);
    }
  }

  async #claim(assigned: readonly AssignedPartition[]): Promise<StartOffset[]> {
    const { plan, pool, instance, countPartitions } = this.#options;
    await setPartitions(pool, plan.source.name, await countPartitions());
    const starts: StartOffset[] = [];
    for (const topic of [this.#topics.results, this.#topics.dead]) {
      const own = assigned.filter((candidate) => candidate.topic === topic);
      const partitions = own.map(({ partition }) => partition);
      if (topic === this.#topics.results && partitions.length > 0) {
        this.#frontiers.claim(await claimFrontier(pool, plan.source.name, partitions, instance));
      }
      // After the claim: a transaction of the former owner that was under way has ended by now.
      const positions = await readPositions(pool, topic, partitions);
      for (const { partition, earliest } of own) {
        // Not where the group's offset says: an empty database wants everything that is still there.
        starts.push({ topic, partition, offset: positions.get(partition) ?? earliest });
      }
    }
    return starts;
  }

  revoked(): void {
    this.#frontiers.clear();
    this.#assemblers = new Map();
    this.#spans.abandon();
  }

  async step(work: readonly PartitionWork[], context: StepContext): Promise<StepResult | null> {
    if (work.length === 0) {
      await this.#afterStep();
      return null;
    }
    try {
      return await this.#spans.during(() => this.#applyWork(work, context));
    } catch (error) {
      throw stepError(error);
    }
  }

  async #applyWork(work: readonly PartitionWork[], context: StepContext): Promise<StepResult> {
    const { metrics } = this.#options;
    const { results } = this.#topics;
    const startedAt = performance.now();
    const partials: Partial[] = [];
    const traces = new Map<Partial, string>();
    const beside: Beside = { letters: [], telemetry: [] };
    const read: Position[] = [];
    for (const piece of work) {
      this.#read(piece, context, partials, traces, beside, read);
    }
    const { shares, replayed, misfits } = judgePartials(
      partials,
      this.#frontiers,
      this.#options.plan,
    );
    metrics.blocksTotal.inc({ fate: 'replayed' }, replayed.length);
    this.#clock.add({ load: (performance.now() - startedAt) / 1000 });
    this.#predict(work, shares);
    this.#openSpans(traces, shares, misfits);
    // A halted partition is read again from where its last transaction left it. What stands in front
    // of the misfit is applied, and then a replay.
    const halted = new Set(misfits.map(({ partial }) => partial.partition));
    const positions = read.filter(
      ({ topic, partition }) => topic !== results || !halted.has(partition),
    );
    const { applied, refused } = await this.#apply(shares, beside, positions);
    for (const misfit of [...misfits, ...refused]) {
      halted.add(misfit.partial.partition);
      this.#spans.fail(misfit.reason, [misfit.partial]);
      await this.#halt(misfit, context);
    }
    this.#count(applied);
    await this.#afterStep(applied);
    return {
      messages: [],
      offsets: read
        .filter(({ topic, partition }) => topic !== results || !halted.has(partition))
        .map(({ topic, partition, next }, index) => ({
          topic,
          partition,
          offset: next,
          ...(index === 0 && {
            metadata: withCost(hint, this.#options.instance, this.#account.encode()),
          }),
        })),
    };
  }

  /** Fusion's work is the rows of partials, however many records they were made of. */
  #predict(work: readonly PartitionWork[], shares: readonly Share[]): void {
    const tables = shares.flatMap(({ partials }) => partials.map((partial) => partial.tables));
    this.#account.predict({
      bytes: work.reduce((sum, { bytes }) => sum + bytes, 0),
      records: tables.reduce((sum, [first]) => sum + Number(first?.read ?? 0n), 0),
      rows: tables.flat().reduce((sum, { rows }) => sum + Number(rows), 0),
    });
  }

  /** Of what is applied, and of what is refused; not of replays. */
  #openSpans(
    traces: ReadonlyMap<Partial, string>,
    shares: readonly Share[],
    misfits: readonly Misfit[],
  ): void {
    if (traces.size === 0) {
      return;
    }
    const judged = [
      ...shares.flatMap(({ partials }) => partials),
      ...misfits.map((m) => m.partial),
    ];
    for (const partial of judged) {
      const trace = traces.get(partial);
      if (trace !== undefined) {
        const { branch, tables, split, run } = partial;
        this.#spans.child(partial, [trace], 'fusion', {
          ...rangeAttributes(partial),
          'anabranch.branch': branch,
          'anabranch.records': split[branch],
          'anabranch.bytes': BigInt(tables.reduce((sum, { text }) => sum + text.length, 0)),
          ...(run !== null && { 'anabranch.run': run.id }),
        });
      }
    }
  }

  /** Takes the messages of one partition apart, and notes where reading goes on after them. */
  #read(
    { topic, partition, batches, from, next, bytes }: PartitionWork,
    context: StepContext,
    partials: Partial[],
    traces: Map<Partial, string>,
    { letters, telemetry }: Beside,
    positions: Position[],
  ): void {
    this.#clock.count({ bytes });
    let assembler: PartialAssembler | undefined;
    if (topic === this.#topics.results) {
      assembler = this.#assemblers.get(partition) ?? new PartialAssembler();
      this.#assemblers.set(partition, assembler);
    }
    try {
      for (const batch of batches) {
        walk(
          batch,
          (
            records,
            offset,
            _timestamp,
            valueStart,
            valueEnd,
            _keyStart,
            _keyEnd,
            headersStart,
            headersEnd,
          ) => {
            const message = records.subarray(Math.max(valueStart, 0), Math.max(valueEnd, 0));
            if (assembler === undefined) {
              const decoded = decodeDeadLetters(message);
              this.#checkOrigin(decoded, partition);
              letters.push(decoded);
            } else if (isTelemetry(message)) {
              telemetry.push(decodeTelemetry(message));
            } else {
              const partial = assembler.add(message, BigInt(offset));
              if (partial !== null) {
                this.#checkOrigin(partial, partition);
                partials.push(partial);
                const trace = readTraceparent(records, headersStart, headersEnd);
                if (trace !== undefined) {
                  traces.set(partial, trace);
                }
              }
            }
          },
          { from },
        );
      }
    } catch (error) {
      if (!(error instanceof ContractError || error instanceof KafkaError)) {
        throw error;
      }
      this.#options.metrics.blocksTotal.inc({ fate: 'damaged' });
      context.halt(topic, partition, error.message);
      return;
    }
    positions.push({ topic, partition, next: assembler?.openSince ?? next });
  }

  /** @throws ContractError for what belongs to another partition: here it would pass for claimed */
  #checkOrigin(found: { readonly source: string; readonly partition: number }, partition: number) {
    const { name } = this.#options.plan.source;
    if (found.source !== name || found.partition !== partition) {
      throw new ContractError(
        'NOT_OURS',
        `Partition ${partition} of source ${name} holds results of ${found.source}/${found.partition}: something else writes to this topic.`,
      );
    }
  }

  async #halt({ partial, verdict, next, reason }: Misfit, context: StepContext): Promise<void> {
    const { plan, pool, log, metrics } = this.#options;
    const { partition, branch, from, to } = partial;
    metrics.blocksTotal.inc({ fate: verdict });
    const source = plan.source.name;
    log.error('a partial does not fit: its partition is halted', {
      source,
      partition,
      branch,
      verdict,
      reason,
    });
    const rows = verdict === 'gap' ? null : Buffer.concat(partial.tables.map(({ text }) => text));
    await recordConflict(pool, {
      source,
      partition,
      branch,
      verdict,
      next,
      from,
      to,
      partial: rows,
    });
    context.halt(this.#topics.results, partition, reason);
  }

  /**
   * One transaction for all shares. Where Postgres refuses the data of one, each partition gets its
   * own, and where it is refused again, each partial: what can be stored is, and the partition of what
   * can't be is halted in front of it.
   * @returns the shares that are committed, and what Postgres refuses, one of a partition
   */
  async #apply(
    shares: readonly Share[],
    beside: Beside,
    positions: readonly Position[],
  ): Promise<{ applied: readonly Share[]; refused: readonly Misfit[] }> {
    if ((await this.#refusal(shares, beside, positions)) === null) {
      return { applied: shares, refused: [] };
    }
    const { results } = this.#topics;
    const isOf = (position: Position, partition: number): boolean =>
      position.topic === results && position.partition === partition;
    const partitions = [...new Set(shares.map(({ partition }) => partition))];
    await this.#commit(
      [],
      beside,
      positions.filter((position) => !partitions.some((partition) => isOf(position, partition))),
    );
    const applied: Share[] = [];
    const refused: Misfit[] = [];
    for (const partition of partitions) {
      const own = shares.filter((share) => share.partition === partition);
      const position = positions.filter((candidate) => isOf(candidate, partition));
      if ((await this.#refusal(own, none, position)) === null) {
        applied.push(...own);
      } else {
        const singly = await this.#applySingly(own);
        applied.push(...singly.applied);
        refused.push(...singly.refused);
      }
    }
    return { applied, refused };
  }

  /** Applies the partials of one partition up to the one that Postgres refuses. */
  async #applySingly(
    shares: readonly Share[],
  ): Promise<{ applied: readonly Share[]; refused: readonly Misfit[] }> {
    const applied: Share[] = [];
    for (const { partition, branch, partials } of shares) {
      for (const partial of partials) {
        const before = this.#frontiers.get(partition, branch);
        const share = { partition, branch, before, partials: [partial] };
        const refusal = await this.#refusal([share], none, []);
        if (refusal !== null) {
          const next = before.next ?? partial.origin;
          const reason = `Postgres refuses the rows of the ${branch} partial [${partial.from}, ${partial.to}) (${refusal}): see docs/operations.md, "A partition is halted".`;
          return { applied, refused: [{ partial, verdict: 'refused', next, reason }] };
        }
        applied.push(share);
      }
    }
    return { applied, refused: [] };
  }

  /** @returns null when it is committed; else why Postgres refuses the data */
  async #refusal(
    shares: readonly Share[],
    beside: Beside,
    positions: readonly Position[],
  ): Promise<string | null> {
    try {
      await this.#commit(shares, beside, positions);
      return null;
    } catch (error) {
      if (isRefusedData(error)) {
        return refusalReason(error);
      }
      throw error;
    }
  }

  async #commit(
    shares: readonly Share[],
    beside: Beside,
    positions: readonly Position[],
  ): Promise<void> {
    const { letters, telemetry } = beside;
    if (shares.length + letters.length + telemetry.length + positions.length === 0) {
      return;
    }
    const { plan, pool, metrics } = this.#options;
    for (let attempt = 1; ; attempt++) {
      let begunCommit = 0;
      try {
        await transaction(pool, async (client) => {
          await merge(client, plan, shares, positions, this.#clock);
          if (letters.length > 0) {
            await storeDeadLetters(client, letters);
          }
          if (telemetry.length > 0) {
            await storeTelemetry(client, telemetry);
          }
          begunCommit = performance.now();
        });
        this.#clock.add({ store: (performance.now() - begunCommit) / 1000 });
        metrics.transactionsTotal.inc({ outcome: 'committed' });
        this.#frontiers.advance(shares);
        return;
      } catch (error) {
        const unknown = errorCode(error) === 'OUTCOME_UNKNOWN';
        metrics.transactionsTotal.inc({ outcome: unknown ? 'unknown' : 'aborted' });
        if (!isCollision(error) || attempt === attempts) {
          throw error;
        }
      }
    }
  }

  #count(shares: readonly Share[]): void {
    const { plan, metrics, processed } = this.#options;
    const source = plan.source.name;
    for (const { partition, branch, partials } of shares) {
      metrics.blocksTotal.inc({ fate: 'applied' }, partials.length);
      for (const { tables, watermark, producedAt } of partials) {
        this.#clock.count({
          records: Number(tables[0]?.read ?? 0n),
          rows: tables.reduce((sum, { rows }) => sum + Number(rows), 0),
        });
        for (const { name: table, aggregated, filtered, dead } of tables) {
          metrics.recordsTotal.inc({ source, table, fate: 'aggregated' }, Number(aggregated));
          metrics.recordsTotal.inc({ source, table, fate: 'filtered' }, Number(filtered));
          metrics.recordsTotal.inc({ source, table, fate: 'dead' }, Number(dead));
        }
        processed(partition, Number(producedAt));
        if (watermark !== null) {
          metrics.watermarkSeconds.set({ source, partition, branch }, Number(watermark) / 1e6);
        }
      }
    }
  }

  /** What may lag behind the merges: which windows are final, and what the steps have cost. */
  async #afterStep(shares: readonly Share[] = []): Promise<void> {
    const { plan, pool, log } = this.#options;
    if (shares.length > 0) {
      const ended = this.#clock.end();
      this.#spans.end(
        ended,
        shares.flatMap(({ partials }) => partials),
      );
      this.#account.end(ended);
    }
    // Of what stood behind a partial that Postgres refuses.
    this.#spans.abandon();
    try {
      await advanceFinalWatermark(pool, plan.source.name);
      const telemetry = this.#account.unsent();
      if (telemetry !== null) {
        await transaction(pool, (client) => storeTelemetry(client, [telemetry]));
        this.#account.sent(telemetry);
      }
    } catch (error) {
      // The rows are committed; a later step raises the watermark as far. Costs may be lost.
      log.repeat('after-step', 'warn', 'the final watermark or the costs could not be written', {
        error,
      });
    }
  }
}

/** What comes beside the partials. */
interface Beside {
  readonly letters: DeadLetters[];
  readonly telemetry: Telemetry[];
}

const none: Beside = { letters: [], telemetry: [] };

/** Class 22 and 23: the data can't be stored as it is, and won't the next time either. */
function isRefusedData(error: unknown): boolean {
  return /^(2[23]|54)/.test(errorCode(error) ?? '');
}

/** What the step loop is to do about an error of Postgres; see its option `step`. */
function stepError(cause: unknown): unknown {
  const message = cause instanceof Error ? cause.message : String(cause);
  if (errorCode(cause) === 'FENCED') {
    // Claiming again at once would take the partitions back from their new owner: first the group
    // has to say whose they are.
    return Object.assign(new Error(message, { cause }), { rejoin: true });
  }
  if (isUnavailable(cause) || isRetriable(cause) || errorCode(cause) === 'OUTCOME_UNKNOWN') {
    return Object.assign(new Error(message, { cause }), { retriable: true });
  }
  return cause;
}
