import { CoverageError } from './errors.ts';
import { judge } from './merge-law.ts';
import { formatRange, type Range } from './range.ts';

/**
 * How far one reader of one branch of one source partition has come: it takes each source offset
 * once, drops what was repeated and refuses what leaves something out.
 */
export class Frontier {
  #next: bigint | null;

  /** @param next first source offset that isn't accounted for; null: nothing was read so far */
  constructor(next: bigint | null) {
    this.#next = next;
  }

  get next(): bigint | null {
    return this.#next;
  }

  /**
   * Whether a block or partial has to be taken, `false` for a replay. `origin` is the source offset
   * that ingest began at: where a reader without a position must begin too.
   * @throws CoverageError `GAP` or `OVERLAP`; the frontier stays where it was.
   */
  take(range: Range, origin: bigint, what: string): boolean {
    const next = this.#next ?? origin;
    const verdict = judge(next, range);
    switch (verdict) {
      case 'merge':
        this.#next = range.to;
        return true;
      case 'replay':
        this.#next = next;
        return false;
      case 'gap':
        throw new CoverageError(
          'GAP',
          `${what}: source offsets ${formatRange({ from: next, to: range.from })} are missing in front of ${formatRange(range)}.`,
        );
      case 'overlap':
        throw new CoverageError(
          'OVERLAP',
          `${what}: ${formatRange(range)} overlaps what is already accounted for up to ${next}.`,
        );
    }
  }
}
