import type { Classified } from '@anabranch/compute';
import type { Altered, Block, Branch, Coverage, Run, SplitCounts } from '@anabranch/contract';
import type { Lines } from './lines.ts';

export interface Split {
  readonly counts: SplitCounts;
  readonly stream: Omit<Block, keyof Coverage | 'producedAt'>;
  readonly batch: Omit<Block, keyof Coverage | 'producedAt'>;
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
  const other: Spans = new Spans(lines);
  const usual: Spans = new Spans(lines);
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
  count = 0;

  constructor(lines: Lines) {
    this.#lines = lines;
  }

  add(first: number, end: number): void {
    if (end <= first) {
      return;
    }
    this.count += end - first;
    const last = this.#bounds.length - 1;
    if (this.#bounds[last] === first) {
      this.#bounds[last] = end;
    } else {
      this.#bounds.push(first, end);
    }
  }

  content(): Omit<Block, keyof Coverage | 'producedAt'> {
    const { text, starts, offsets } = this.#lines;
    const pieces: Buffer[] = [];
    const runs: { start: number; count: number }[] = [];
    for (let i = 0; i < this.#bounds.length; i += 2) {
      const [first = 0, end = 0] = this.#bounds.slice(i, i + 2);
      pieces.push(text.subarray(starts[first], starts[end]));
      for (let line = first; line < end; line++) {
        const offset = offsets[line] ?? 0;
        const run = runs.at(-1);
        if (run !== undefined && run.start + run.count === offset) {
          run.count++;
        } else {
          runs.push({ start: offset, count: 1 });
        }
      }
    }
    return {
      payload: pieces.length === 1 && pieces[0] !== undefined ? pieces[0] : Buffer.concat(pieces),
      runs: runs.map(({ start, count }): Run => ({ start: BigInt(start), count })),
      altered: this.#altered(),
    };
  }

  /** The changes to this branch's lines, by their place in its payload. */
  #altered(): Altered[] {
    if (this.#lines.altered.length === 0) {
      return [];
    }
    const changes = new Map(this.#lines.altered.map((change) => [change.record, change]));
    const altered: Altered[] = [];
    let place = 0;
    for (let i = 0; i < this.#bounds.length; i += 2) {
      const [first = 0, end = 0] = this.#bounds.slice(i, i + 2);
      for (let line = first; line < end; line++, place++) {
        const change = changes.get(line);
        if (change !== undefined) {
          altered.push({ ...change, record: place });
        }
      }
    }
    return altered;
  }
}
