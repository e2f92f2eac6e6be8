import type { Decision, StepCost, TableCost, Telemetry } from '@anabranch/contract';
import {
  errorBound,
  fullLoad,
  Rate,
  type StageSeconds,
  stages,
  type StageUnits,
  StepModel,
  type StepSize,
  sustained,
  total,
} from '@anabranch/cost';
import type { Metrics } from './create-metrics.ts';
import type { Log } from './log.ts';
import type { StageCost } from './stage-clock.ts';

export interface CostAccountOptions {
  readonly service: string;
  readonly instance: string;
  readonly source: string;
  /** null: its steps serve both. */
  readonly branch: 'stream' | 'batch' | null;
  readonly units: StageUnits;
  /** Of the largest step: what an instance sustains, it does in such ones. */
  readonly stepBytes: number;
  readonly metrics: Metrics;
  readonly log: Pick<Log, 'info'>;
}

/** Fusion adds these up: more often would cost more than it tells. */
const sendMilliseconds = 1000;
/** While nothing can be sent: what is older is lost. These are measurements only. */
const mostUnsent = 600;

type Sum = {
  -readonly [K in keyof StepCost]: K extends 'predicted'
    ? Record<keyof StageSeconds, number>
    : StepCost[K];
};

/**
 * What the steps of one source cost in a service: predicts each before it runs, learns from what was
 * measured, and keeps both for Postgres. The services without a connection there send them through the results topic.
 */
export class CostAccount {
  readonly #options: CostAccountOptions;
  readonly #rate = new Rate();
  #model: StepModel;
  #prediction: StageSeconds | null = null;
  /** What wasn't sent yet: a sum a minute at least, and one for each message. */
  readonly #costs: StepCost[] = [];
  readonly #decisions: Decision[] = [];
  #open: Sum | null = null;
  readonly #errors = new Map<string, Map<number, bigint>>();
  readonly #tables = new Map<string, { records: bigint; rows: bigint; seconds: number }>();
  #triedAt = 0;

  constructor(options: CostAccountOptions) {
    this.#options = options;
    this.#model = new StepModel(options.units);
    options.metrics.page.beforeScrape(() => {
      this.#measure();
    });
  }

  get model(): StepModel {
    return this.#model;
  }

  /** Records a second, lately. */
  rate(): number {
    return this.#rate.at(performance.now() / 1000);
  }

  /**
   * Takes up what a former owner of the partitions, or this instance before its restart, had learnt.
   * @param learnt as `encode` gave it
   */
  restore(learnt: Iterable<string | null>): void {
    for (const text of learnt) {
      const model = StepModel.decode(text, this.#options.units);
      if (model.samples > this.#model.samples) {
        this.#model = model;
      }
    }
  }

  /** What was learnt, without a space, to be committed with an offset; null: nothing yet. */
  encode(): string | null {
    return this.#model.samples === 0 ? null : this.#model.encode();
  }

  /** Before the step runs, as soon as it is known what it has to do. */
  predict(size: StepSize): void {
    this.#prediction = this.#model.predict(size);
  }

  /** After its transaction. @param tables what each table took of it */
  end(measured: StageCost, tables: readonly TableCost[] = []): void {
    const { bytes, records, rows } = measured;
    this.#model.observe({ bytes, records, rows }, measured);
    this.#rate.add(performance.now() / 1000, records);
    const now = Date.now();
    if (this.#open !== null && minuteOf(now) !== minuteOf(Number(this.#open.finishedAt))) {
      this.#close();
    }
    const sum = (this.#open ??= this.#nothing());
    sum.finishedAt = BigInt(now);
    sum.steps += 1n;
    sum.bytes += BigInt(bytes);
    sum.records += BigInt(records);
    sum.rows += BigInt(rows);
    sum.cpu += processorSeconds();
    for (const stage of stages) {
      sum[stage] += measured[stage];
    }
    if (this.#prediction !== null) {
      sum.predictedSteps += 1n;
      for (const stage of stages) {
        sum.predicted[stage] += this.#prediction[stage];
        this.#countError(stage, this.#prediction[stage], measured[stage]);
      }
      this.#countError('total', total(this.#prediction), total(measured));
    }
    for (const { table, ...cost } of tables) {
      const known = this.#tables.get(table) ?? { records: 0n, rows: 0n, seconds: 0 };
      known.records += cost.records;
      known.rows += cost.rows;
      known.seconds += cost.seconds;
      this.#tables.set(table, known);
    }
    this.#prediction = null;
  }

  /** Notes something that was decided by costs, where it differs from what was decided before. */
  decide(
    kind: 'micro-batch' | 'run' | 'divert',
    decision: string,
    figures: Readonly<Record<string, unknown>>,
  ): void {
    const { service, instance, source, metrics, log } = this.#options;
    log.info('decided', { source, kind, decision, ...figures });
    metrics.decisionsTotal.inc({ source, kind });
    this.#decisions.push({
      service,
      instance,
      source,
      at: BigInt(Date.now()),
      kind,
      decision,
      figures: JSON.stringify(figures),
    });
    this.#decisions.splice(0, this.#decisions.length - mostUnsent);
  }

  /** Decisions that weren't sent went with a transaction that failed: they aren't true. */
  forgetDecisions(): void {
    this.#decisions.length = 0;
  }

  /** What is to be sent now; null: nothing yet. Remains until it is `sent`. */
  unsent(): Telemetry | null {
    const now = Date.now();
    if (now - this.#triedAt < sendMilliseconds && this.#decisions.length === 0) {
      return null;
    }
    this.#close();
    if (this.#costs.length + this.#decisions.length === 0) {
      return null;
    }
    this.#triedAt = now;
    const { service, instance, source, branch, stepBytes } = this.#options;
    return {
      costs: [...this.#costs],
      models: [
        {
          service,
          instance,
          source,
          branch,
          at: BigInt(now),
          sustained: sustained(this.#model, stepBytes),
          stages: this.#model
            .speeds()
            .map((speed) => ({ ...speed, samples: BigInt(speed.samples) })),
        },
      ],
      decisions: [...this.#decisions],
    };
  }

  /** The transaction with it is through. */
  sent(telemetry: Telemetry | null): void {
    if (telemetry !== null) {
      this.#costs.splice(0, telemetry.costs.length);
      this.#decisions.splice(0, telemetry.decisions.length);
    }
  }

  #nothing(): Sum {
    const { service, instance, source, branch } = this.#options;
    const none = { load: 0, preprocess: 0, process: 0, store: 0 };
    return {
      service,
      instance,
      source,
      branch,
      finishedAt: 0n,
      steps: 0n,
      bytes: 0n,
      records: 0n,
      rows: 0n,
      ...none,
      cpu: 0,
      predicted: { ...none },
      predictedSteps: 0n,
      errors: [],
      tables: [],
    };
  }

  #close(): void {
    if (this.#open === null) {
      return;
    }
    this.#open.errors = [...this.#errors].flatMap(([stage, counts]) =>
      [...counts].map(([atMost, steps]) => ({ stage, atMost, steps })),
    );
    this.#open.tables = [...this.#tables].map(([table, cost]) => ({ table, ...cost }));
    this.#costs.push(this.#open);
    this.#costs.splice(0, this.#costs.length - mostUnsent);
    this.#open = null;
    this.#errors.clear();
    this.#tables.clear();
  }

  #countError(stage: string, predicted: number, measured: number): void {
    const counts = this.#errors.get(stage) ?? new Map<number, bigint>();
    const bound = errorBound(predicted, measured);
    counts.set(bound, (counts.get(bound) ?? 0n) + 1n);
    this.#errors.set(stage, counts);
  }

  #measure(): void {
    const { source, metrics, stepBytes } = this.#options;
    const capacity = sustained(this.#model, stepBytes);
    const rate = this.rate();
    metrics.presentRecords.set({ source }, rate);
    if (capacity !== null) {
      metrics.sustainedRecords.set({ source }, capacity);
      metrics.instancesAsked.set({ source }, rate / (fullLoad * capacity));
    }
  }
}

function minuteOf(milliseconds: number): number {
  return Math.floor(milliseconds / 60_000);
}

let charged = process.cpuUsage();

/** What this process has taken since the call before: so each second is charged to one step only. */
function processorSeconds(): number {
  const now = process.cpuUsage();
  const seconds = (now.user + now.system - charged.user - charged.system) / 1e6;
  charged = now;
  return seconds;
}
