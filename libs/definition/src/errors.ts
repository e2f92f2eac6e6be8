/** One thing that is wrong in a file of the user's. */
export interface Problem {
  readonly file: string;
  /** One-based, as editors count. */
  readonly line: number;
  readonly column: number;
  /** The offending text, as it stands in the file; empty where something is missing. */
  readonly text: string;
  readonly message: string;
  /** What the user probably meant, or what to write instead: a phrase that goes behind a dash. */
  readonly hint?: string;
  /** The whole line of the file, if known: it is shown with a caret below `text`. */
  readonly sourceLine?: string;
}

/** Problems that a message shows; a garbled file may have thousands. */
const shownProblems = 20;
/** Characters of a source line that a message shows. */
const shownWidth = 120;

/**
 * A definition, or a schema that it names, can't be used. Has all problems found, in the order of
 * the files; the message shows the first of them with their lines.
 */
export class DefinitionError extends Error {
  readonly code = 'DEFINITION_INVALID';
  readonly problems: readonly Problem[];

  constructor(problems: readonly Problem[], options?: ErrorOptions) {
    const sorted = problems.toSorted(
      (a, b) => compare(a.file, b.file) || a.line - b.line || a.column - b.column,
    );
    super(renderProblems(sorted), options);
    this.name = 'DefinitionError';
    this.problems = sorted;
  }
}

function compare(a: string, b: string): number {
  if (a === b) {
    return 0;
  }
  return a < b ? -1 : 1;
}

function renderProblems(problems: readonly Problem[]): string {
  const shown = problems.slice(0, shownProblems).map(renderProblem);
  const rest = problems.length - shown.length;
  return [...shown, ...(rest > 0 ? [`… and ${String(rest)} more problems`] : [])].join('\n');
}

/** `file:line:column: message — hint`, below it the line and a caret if the line is known. */
export function renderProblem(problem: Problem): string {
  const { file, line, column, message, hint, sourceLine } = problem;
  const head = printable(
    `${file}:${String(line)}:${String(column)}: ${message}${hint === undefined ? '' : ` — ${hint}`}`,
  );
  if (sourceLine === undefined || sourceLine.trim() === '') {
    return head;
  }
  // A window of the line around the caret: schemas come minified.
  const at = column - 1;
  const from = at > shownWidth - 20 ? at - 40 : 0;
  const part = sourceLine.slice(from, from + shownWidth);
  const start = from > 0 ? '…' : '';
  const end = from + shownWidth < sourceLine.length ? '…' : '';
  const gutter = String(line);
  const before = start + part.slice(0, at - from);
  const firstLine = problem.text.split('\n', 1)[0] ?? '';
  const width = Math.max(1, Math.min(firstLine.length, part.length - (at - from)));
  return [
    head,
    `  ${gutter} | ${printable(start + part + end)}`,
    `  ${' '.repeat(gutter.length)} | ${before.replaceAll(/[^\t]/g, ' ')}${'^'.repeat(width)}`,
  ].join('\n');
}

/** Without control characters, which a file could use to rewrite the user's terminal. */
function printable(text: string): string {
  // eslint-disable-next-line no-control-regex
  return text.replaceAll(/[\u0000-\u0008\u000b-\u001f\u007f-\u009f]/g, '\ufffd');
}
