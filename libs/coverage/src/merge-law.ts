import type { Range } from './range.ts';

export type Verdict = 'merge' | 'replay' | 'gap' | 'overlap';

/**
 * The merge law: what becomes of a block or partial that covers `range`, where everything in front
 * of `next` is accounted for. It is total, and only `merge` may move `next`, to `range.to`.
 *
 * An empty range at `next` merges: it brings no record, and its watermark only ever rises, so that
 * merging it twice is the same as once.
 */
export function judge(next: bigint, range: Range): Verdict {
  if (range.from === next) {
    return 'merge';
  }
  if (range.to <= next) {
    return 'replay';
  }
  return range.from > next ? 'gap' : 'overlap';
}
