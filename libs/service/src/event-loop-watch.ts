/** How often it looks: the error of what it finds. */
const tickMilliseconds = 500;

/**
 * Notices when JavaScript doesn't get to run for long. While that lasts no probe is answered at all;
 * this is for the probe that waited, and for one that comes just after.
 */
export class EventLoopWatch {
  readonly #now: () => number;
  readonly #memoryMilliseconds: number;
  #lastTick: number;
  #stall = { milliseconds: 0, endedAt: Number.NEGATIVE_INFINITY };
  #timer: NodeJS.Timeout | undefined;

  /**
   * @param memoryMilliseconds how long a stall is remembered after its end
   * @param now milliseconds that never go backwards
   */
  constructor(memoryMilliseconds: number, now: () => number = () => performance.now()) {
    this.#memoryMilliseconds = memoryMilliseconds;
    this.#now = now;
    this.#lastTick = now();
  }

  start(): void {
    this.#lastTick = this.#now();
    this.#timer = setInterval(() => {
      this.tick();
    }, tickMilliseconds).unref();
  }

  stop(): void {
    clearInterval(this.#timer);
  }

  /** The longest stall that goes on or that ended a short while ago, in milliseconds. */
  stalledMilliseconds(): number {
    this.tick();
    return this.#now() - this.#stall.endedAt > this.#memoryMilliseconds
      ? 0
      : this.#stall.milliseconds;
  }

  tick(): void {
    const now = this.#now();
    const milliseconds = Math.max(0, now - this.#lastTick - tickMilliseconds);
    this.#lastTick = now;
    const forgotten = now - this.#stall.endedAt > this.#memoryMilliseconds;
    if (forgotten || milliseconds >= this.#stall.milliseconds) {
      this.#stall = { milliseconds, endedAt: now };
    }
  }
}
