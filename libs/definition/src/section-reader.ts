import type { Problem } from './errors.ts';
import { type Located, offsetWithin, type Span } from './located.ts';
import type { Expression, Position } from './model.ts';
import { formatDuration, formatSize, parseDuration, parseSize } from './quantity.ts';
import { quote, type SourceText } from './source-text.ts';
import { didYouMean } from './suggestion.ts';

/** Names that are possible somewhere. */
export interface Known {
  /** As a noun: `field`, `column`. */
  readonly what: string;
  readonly names: ReadonlySet<string>;
}

/** What sources and tables are read with: values, with their problems reported at their place. */
export class SectionReader {
  readonly #source: SourceText;
  readonly #problems: Problem[];

  constructor(source: SourceText, problems: Problem[]) {
    this.#source = source;
    this.#problems = problems;
  }

  /** To tell whether something has been reported since. */
  get problemCount(): number {
    return this.#problems.length;
  }

  get problems(): Problem[] {
    return this.#problems;
  }

  report(at: Located, message: string, hint?: string): void {
    const empty = at.span[0] === at.span[1];
    this.reportSpan(empty && at.keySpan ? at.keySpan : at.span, message, hint);
  }

  /** At the key, for what concerns the entry as a whole. */
  reportKey(at: Located, message: string, hint?: string): void {
    this.reportSpan(at.keySpan ?? at.span, message, hint);
  }

  /** At a part of a text value. */
  reportWithin(at: Located, [start, end]: Span, message: string, hint?: string): void {
    const from = offsetWithin(this.#source, at, start);
    const to = Math.max(from + 1, offsetWithin(this.#source, at, Math.max(start, end - 1)) + 1);
    this.reportSpan([from, to], message, hint);
  }

  reportSpan(span: Span, message: string, hint?: string): void {
    this.#problems.push(this.#source.problem(span, message, hint));
  }

  keyPosition(at: Located): Position {
    return this.#source.position((at.keySpan ?? at.span)[0]);
  }

  positionWithin(at: Located, index: number): Position {
    return this.#source.position(offsetWithin(this.#source, at, index));
  }

  /** null, and reported, if it is empty. */
  expression(at: Located): Expression | null {
    // Numbers as they are written: 1.10 isn't 1.1 to a decimal.
    const text =
      typeof at.value === 'string' ? at.value : this.#source.text.slice(at.span[0], at.span[1]);
    const sql = text.trim();
    if (sql === '') {
      this.report(at, 'an SQL expression is missing');
      return null;
    }
    const index = text.length - text.trimStart().length;
    return { sql, at: this.positionWithin(at, index) };
  }

  duration(at: Located | undefined, byDefault: number, min: string, max: string): number {
    return this.#quantity(at, byDefault, min, max, parseDuration, formatDuration);
  }

  size(at: Located | undefined, byDefault: number, min: string, max: string): number {
    return this.#quantity(at, byDefault, min, max, parseSize, formatSize);
  }

  #quantity(
    at: Located | undefined,
    byDefault: number,
    min: string,
    max: string,
    parse: (text: string) => number | null,
    format: (value: number) => string,
  ): number {
    if (!at) {
      return byDefault;
    }
    const text = String(at.value);
    const value = parse(text);
    if (value === null) {
      this.report(at, `${quote(text)} isn't a whole number of ${format(1)}`);
      return byDefault;
    }
    if (value < (parse(min) ?? 0) || value > (parse(max) ?? Infinity)) {
      this.report(at, `${quote(text)} is out of bounds`, `possible: ${min} to ${max}`);
    }
    return value;
  }

  /** Reports each name that isn't known or is there twice. */
  names(list: Located | undefined, known: readonly Known[]): string[] {
    const found = new Set<string>();
    for (const at of list?.children.values() ?? []) {
      const name = String(at.value);
      if (found.has(name)) {
        this.report(at, `${quote(name)} is there twice`);
      } else if (known.some(({ names }) => names.has(name))) {
        found.add(name);
      } else {
        this.unknownName(at, name, ...known);
      }
    }
    return [...found];
  }

  unknownName(at: Located, name: string, ...known: readonly Known[]): void {
    const all = known.flatMap(({ names }) => [...names]);
    const whats = known.map(({ what }) => what).join(' or ');
    const list = all.length <= 12 ? all.join(', ') : `${all.slice(0, 12).join(', ')}, …`;
    this.report(
      at,
      `there is no ${whats} ${quote(name)}`,
      didYouMean(name, all) ?? (all.length === 0 ? undefined : `there are: ${list}`),
    );
  }
}
