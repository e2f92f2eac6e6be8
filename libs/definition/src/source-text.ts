import { LineCounter } from 'yaml';
import type { Problem } from './errors.ts';
import type { Position } from './model.ts';

/** Characters of an offending text that a message repeats. */
const quotedLength = 60;

/** The text of a file, and what stands where in it. Offsets are zero-based, in UTF-16 units. */
export class SourceText {
  readonly file: string;
  readonly text: string;
  readonly lines = new LineCounter();

  constructor(file: string, text: string) {
    this.file = file;
    this.text = text;
    this.lines.addNewLine(0);
    for (let at = text.indexOf('\n'); at >= 0; at = text.indexOf('\n', at + 1)) {
      this.lines.addNewLine(at + 1);
    }
  }

  position(offset: number): Position {
    const { line, col } = this.lines.linePos(Math.min(Math.max(offset, 0), this.text.length));
    return { file: this.file, line, column: col };
  }

  problem([start, end]: readonly [number, number], message: string, hint?: string): Problem {
    const position = this.position(start);
    const lineStart = start - (position.column - 1);
    const lineEnd = this.text.indexOf('\n', lineStart);
    const sourceLine = this.text
      .slice(lineStart, lineEnd < 0 ? undefined : lineEnd)
      .replace(/\r$/, '');
    return {
      ...position,
      text: this.text.slice(start, end),
      message,
      ...(hint === undefined ? {} : { hint }),
      sourceLine,
    };
  }
}

/** In double quotes, shortened where it is long. */
export function quote(text: string): string {
  return `"${text.length > quotedLength ? `${text.slice(0, quotedLength)}…` : text}"`;
}

/** A value of a file, as a message calls it. */
export function describe(value: unknown): string {
  if (value === null || value === undefined) {
    return 'nothing';
  }
  if (typeof value === 'object') {
    return Array.isArray(value) ? 'a list' : 'a map';
  }
  return typeof value === 'string' ? quote(value) : `the ${typeof value} ${JSON.stringify(value)}`;
}
