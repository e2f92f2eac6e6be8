/** A burst counts for about as long as this. */
const memorySeconds = 10;

/** A rate of events, averaged over the last seconds. */
export class Rate {
  #perSecond = 0;
  #at = 0;

  /** @param now seconds, of any clock that doesn't go back */
  add(now: number, count: number): void {
    this.#perSecond = this.at(now) + count / memorySeconds;
    this.#at = now;
  }

  at(now: number): number {
    return this.#perSecond * Math.exp(-Math.max(0, now - this.#at) / memorySeconds);
  }
}
