/** Weights fall to a third within this many samples: some seconds of micro-batches, an hour of runs. */
const memory = 100;
/** The spread follows faster than the line, so that a lasting change soon stops to look like outliers. */
const spreadMemory = 32;
/** Residuals beyond this many times the spread count as if they were no larger: Huber's weights. */
const huber = 1.5;
const leastSpread = 0.02;
/** Seconds below this are noise of the clock. */
const leastSeconds = 1e-6;
/** Where sizes vary by less than about this share, they can't tell the fixed part from the rest. */
const leastVariation = 0.02;

/** Sums over the samples, forgotten exponentially: all that a fit remembers. */
export interface FitState {
  readonly samples: number;
  /** Mean of |measured − predicted| / predicted, cut at three times itself. */
  readonly spread: number;
  readonly meanX: number;
  readonly w: number;
  readonly wx: number;
  readonly wxx: number;
  readonly wy: number;
  readonly wxy: number;
}

const nothing: FitState = {
  samples: 0,
  spread: 0.5,
  meanX: 0,
  w: 0,
  wx: 0,
  wxx: 0,
  wy: 0,
  wxy: 0,
};

/**
 * The line y = fixed + each · x through samples, neither part below zero. Recursive least squares over
 * relative errors: it forgets old samples, and an outlier pulls no harder than a sample at the edge of the usual
 * spread does.
 */
export class Fit {
  #state: FitState;

  constructor(state: FitState = nothing) {
    this.#state = state;
  }

  get state(): FitState {
    return this.#state;
  }

  /** How many it has seen, ever. */
  get samples(): number {
    return this.#state.samples;
  }

  observe(x: number, y: number): void {
    const before = this.#state;
    const samples = before.samples + 1;
    const expected = before.samples === 0 ? y : this.predict(x);
    const off = Math.abs(y - expected) / Math.max(expected, leastSeconds);
    const usual = Math.max(before.spread, leastSpread);
    const spread =
      before.samples === 0
        ? before.spread
        : before.spread + (Math.min(off, 3 * usual) - before.spread) / spreadMemory;
    const meanX = before.meanX + (x - before.meanX) / Math.min(samples, memory);
    // Relative to the step's size and not to its seconds: those would let slow samples count less.
    const scale = meanX + x > 0 ? (meanX + x) ** -2 : 1;
    const edge = huber * usual;
    const weight = off > edge ? (scale * edge) / off : scale;
    const keep = 1 - 1 / memory;
    this.#state = {
      samples,
      spread,
      meanX,
      w: keep * before.w + weight,
      wx: keep * before.wx + weight * x,
      wxx: keep * before.wxx + weight * x * x,
      wy: keep * before.wy + weight * y,
      wxy: keep * before.wxy + weight * x * y,
    };
  }

  predict(x: number): number {
    const { fixed, each } = this.line();
    return fixed + each * x;
  }

  /** With samples of one size only, all counts as `each`: an estimate for larger ones is then too high, never too low. */
  line(): { readonly fixed: number; readonly each: number } {
    const { w, wx, wxx, wy, wxy } = this.#state;
    if (w === 0) {
      return { fixed: 0, each: 0 };
    }
    const meanX = wx / w;
    const meanY = wy / w;
    const known = Math.max(0, wxx - wx * meanX);
    const assumed = w * (leastVariation * meanX) ** 2;
    const each = (wxy - wx * meanY + assumed * (meanX > 0 ? meanY / meanX : 0)) / (known + assumed);
    if (!(each > 0)) {
      return { fixed: meanY, each: 0 };
    }
    const fixed = meanY - each * meanX;
    return fixed >= 0 ? { fixed, each } : { fixed: 0, each: wxy / wxx };
  }
}
