import type { Classified } from '@anabranch/compute';
import type { Altered, Block, Branch, Coverage, Run, SplitCounts } from '@anabranch/contract';
import type { Lines } from './lines.ts';

/** What a block holds beside its coverage. */
export type BlockContent = Omit<Block, keyof Coverage | 'producedAt'>;

export interface Split {
  readonly counts: SplitCounts;
  readonly stream: BlockContent;
  readonly batch: BlockContent;
}

/**
 * Cuts the lines of one partition into the two branches' payloads. Most lines take the default
 * branch; only the exceptions are looked at, and a text without any travels as it is.
 */
export function splitLines(
  lines: Lines,
  { exceptions, rules, dead }: Pick<Classified, 'exceptions' | 'rules' | 'dead'>,
  defaultBranch: Branch,
): Split {
  const other = new Spans(lines);
  const usual = new Spans(lines);
  const { positions, verdicts } = exceptions;
  let next = 0;
  for (let i = 0; i < positions.length; i++) {
    const at = positions[i] ?? 0;
    usual.add(next, at);
    if ((verdicts[i] ?? -1) >= 0) {
      other.add(at, at + 1);
    }
    next = at + 1;
  }
  usual.add(next, lines.count);
  const [stream, batch] = defaultBranch === 'stream' ? [usual, other] : [other, usual];
  return {
    counts: {
      stream: BigInt(stream.count),
      batch: BigInt(batch.count),
      dead: BigInt(dead + lines.refused.length),
      rules: rules.map(BigInt),
    },
    stream: stream.content(),
    batch: batch.content(),
  };
}

/** Lines of one branch, as spans of adjacent lines. */
class Spans {
  readonly #lines: Lines;
  /** Pairs of first line and the line behind the last. */
  readonly #bounds: number[] = [];
  #bytes = 0;
  count = 0;

  constructor(lines: Lines) {
    this.#lines = lines;
  }

  add(first: number, end: number): void {
    if (end <= first) {
      return;
    }
    const { starts } = this.#lines;
    this.count += end - first;
    this.#bytes += (starts[end] ?? 0) - (starts[first] ?? 0);
    const last = this.#bounds.length - 1;
    if (this.#bounds[last] === first) {
      this.#bounds[last] = end;
    } else {
      this.#bounds.push(first, end);
    }
  }

  content(): BlockContent {
    return { payload: this.#payload(), runs: this.#runs(), altered: this.#altered() };
  }

  #payload(): Buffer {
    const { text, starts } = this.#lines;
    if (this.#bounds.length === 2) {
      return text.subarray(starts[this.#bounds[0] ?? 0], starts[this.#bounds[1] ?? 0]);
    }
    const payload = Buffer.allocUnsafe(this.#bytes);
    let end = 0;
    for (let i = 0; i < this.#bounds.length; i += 2) {
      end += text.copy(
        payload,
        end,
        starts[this.#bounds[i] ?? 0],
        starts[this.#bounds[i + 1] ?? 0],
      );
    }
    return payload;
  }

  #runs(): Run[] {
    const { offsets } = this.#lines;
    const runs: Run[] = [];
    let start = 0;
    let count = 0;
    for (let i = 0; i < this.#bounds.length; i += 2) {
      const end = this.#bounds[i + 1] ?? 0;
      let line = this.#bounds[i] ?? 0;
      while (line < end) {
        const offset = offsets[line] ?? 0;
        // A span is one run, unless markers or aborted records have left holes in it.
        const whole = (offsets[end - 1] ?? 0) - offset === end - 1 - line;
        const lines = whole ? end - line : 1;
        if (count > 0 && start + count === offset) {
          count += lines;
        } else {
          if (count > 0) {
            runs.push({ start: BigInt(start), count });
          }
          start = offset;
          count = lines;
        }
        line += lines;
      }
    }
    if (count > 0) {
      runs.push({ start: BigInt(start), count });
    }
    return runs;
  }

  /** The changes to this branch's lines, by their place in its payload. */
  #altered(): Altered[] {
    const changes = this.#lines.altered;
    const altered: Altered[] = [];
    let next = 0;
    let place = 0;
    for (let i = 0; i < this.#bounds.length && next < changes.length; i += 2) {
      const first = this.#bounds[i] ?? 0;
      const end = this.#bounds[i + 1] ?? 0;
      for (let change = changes[next]; change && change.record < end; change = changes[++next]) {
        if (change.record >= first) {
          altered.push({ ...change, record: place + change.record - first });
        }
      }
      place += end - first;
    }
    return altered;
  }
}
