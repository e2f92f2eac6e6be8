import { Fit, type FitState } from './fit.ts';

/** T_total = T_load + T_preprocess + T_process + T_store. */
export const stages = ['load', 'preprocess', 'process', 'store'] as const;
export type Stage = (typeof stages)[number];
/** Seconds of the clock. */
export type StageSeconds = Readonly<Record<Stage, number>>;

/** How much a step has to do. */
export interface StepSize {
  readonly bytes: number;
  readonly records: number;
  /** null: known only once the step has made them; then they are predicted from the records. */
  readonly rows: number | null;
}

export type Unit = keyof StepSize;

/** What each stage's seconds grow with. */
export type StageUnits = Readonly<Record<Stage, Unit>>;

/** B/S + D/P + D/C + D/W, where what is stored are a table's rows. */
export const processorUnits: StageUnits = {
  load: 'bytes',
  preprocess: 'records',
  process: 'records',
  store: 'rows',
};
/** Ingest makes no rows: it stores the records themselves. */
export const ingestUnits: StageUnits = { ...processorUnits, store: 'records' };
/** The D of fusion are the rows of partials, not the records that they were made of. */
export const fusionUnits: StageUnits = {
  load: 'bytes',
  preprocess: 'rows',
  process: 'rows',
  store: 'rows',
};

/** A stage's line: seconds = fixed + each · units. */
export interface StageSpeed {
  readonly stage: Stage;
  readonly unit: Unit;
  /** Seconds that a step pays once. */
  readonly fixed: number;
  /** Seconds a unit: its inverse is the speed S, P, C or W. */
  readonly each: number;
  readonly samples: number;
}

/** Before this many steps there are no predictions: the first ones are cold. */
const fewestSamples = 10;
const forms = 'c1';

/** What a step of a service costs by its size, learnt from the steps that it has measured. */
export class StepModel {
  readonly #units: StageUnits;
  readonly #fits: Readonly<Record<Stage, Fit>>;
  /** Rows by records. */
  readonly #rows: Fit;
  /** Bytes by records. */
  readonly #bytes: Fit;

  constructor(units: StageUnits, states: readonly FitState[] = []) {
    this.#units = units;
    const [load, preprocess, process, store, rows, bytes] = states;
    this.#fits = {
      load: new Fit(load),
      preprocess: new Fit(preprocess),
      process: new Fit(process),
      store: new Fit(store),
    };
    this.#rows = new Fit(rows);
    this.#bytes = new Fit(bytes);
  }

  /** Steps seen. */
  get samples(): number {
    return this.#fits.store.samples;
  }

  observe(size: StepSize, seconds: StageSeconds): void {
    const known = { ...size, rows: size.rows ?? 0 };
    for (const stage of stages) {
      const units = known[this.#units[stage]];
      if (units > 0 || stage === 'store') {
        this.#fits[stage].observe(units, seconds[stage]);
      }
    }
    if (size.records > 0) {
      this.#rows.observe(size.records, known.rows);
      this.#bytes.observe(size.records, size.bytes);
    }
  }

  /** null until enough steps were seen. A stage without anything to do takes no time, but what stores commits. */
  predict(size: StepSize): StageSeconds | null {
    if (this.samples < fewestSamples) {
      return null;
    }
    const known = { ...size, rows: size.rows ?? this.#rowsOf(size.records) };
    const of = (stage: Stage): number => {
      const units = known[this.#units[stage]];
      return units > 0 || stage === 'store' ? this.#fits[stage].predict(units) : 0;
    };
    return {
      load: of('load'),
      preprocess: of('preprocess'),
      process: of('process'),
      store: of('store'),
    };
  }

  /** Seconds of a step of this many records of the usual length; null until enough steps were seen. */
  secondsOf(records: number): number | null {
    const seconds = this.predict({ bytes: this.bytesOf(records), records, rows: null });
    return seconds && total(seconds);
  }

  /** Bytes that this many records have. */
  bytesOf(records: number): number {
    return records === 0 ? 0 : this.#bytes.predict(records);
  }

  speeds(): StageSpeed[] {
    return stages.map((stage) => ({
      stage,
      unit: this.#units[stage],
      ...this.#fits[stage].line(),
      samples: this.#fits[stage].samples,
    }));
  }

  #rowsOf(records: number): number {
    return records === 0 ? 0 : this.#rows.predict(records);
  }

  /** Some 300 characters without a space, for the metadata of a committed offset. */
  encode(): string {
    const fits = [...stages.map((stage) => this.#fits[stage]), this.#rows, this.#bytes];
    const texts = fits.map(({ state: { samples, spread, meanX, w, wx, wxx, wy, wxy } }) =>
      [
        samples,
        ...[spread, meanX, w, wx, wxx, wy, wxy].map((sum) => Number(sum.toPrecision(8))),
      ].join(','),
    );
    return [forms, ...texts].join(';');
  }

  /** A model that knows nothing where the text isn't one of ours: these are measurements only. */
  static decode(text: string | null, units: StageUnits): StepModel {
    const [form, ...fits] = (text ?? '').split(';');
    const states = fits.map(stateOf);
    return form === forms && states.length === 6 && states.every((state) => state !== null)
      ? new StepModel(units, states)
      : new StepModel(units);
  }
}

export function total(seconds: StageSeconds): number {
  return stages.reduce((sum, stage) => sum + seconds[stage], 0);
}

function stateOf(text: string): FitState | null {
  const numbers = text.split(',').map(Number);
  if (numbers.length !== 8 || !numbers.every((number) => Number.isFinite(number) && number >= 0)) {
    return null;
  }
  const [samples = 0, spread = 0, meanX = 0, w = 0, wx = 0, wxx = 0, wy = 0, wxy = 0] = numbers;
  return { samples, spread, meanX, w, wx, wxx, wy, wxy };
}
