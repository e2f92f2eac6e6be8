import type { AggregateFunction } from './model.ts';
import { quote } from './source-text.ts';
import { didYouMean } from './suggestion.ts';

export const aggregateFunctions: readonly AggregateFunction[] = [
  'count',
  'sum',
  'min',
  'max',
  'avg',
];

/** Offsets are in the text that was parsed. */
export type ParsedAggregate =
  | {
      readonly function: AggregateFunction;
      /** null: `count(*)`. */
      readonly argument: { readonly sql: string; readonly at: number } | null;
    }
  | {
      readonly problem: string;
      readonly hint?: string;
      readonly span: readonly [number, number];
    };

/**
 * Reads `function(argument)`. The argument is any SQL expression: of it this checks only where it
 * ends.
 */
export function parseAggregate(text: string): ParsedAggregate {
  const call = /^\s*([A-Za-z_][A-Za-z0-9_]*)\s*\(/.exec(text);
  const all: readonly [number, number] = [0, text.length];
  if (!call) {
    const list = aggregateFunctions.join(', ');
    return {
      problem: 'expected an aggregate',
      hint: /^\w+$/.test(text.trim()) ? `such as sum(${text.trim()})` : `one of ${list}`,
      span: all,
    };
  }
  const [opening, written = ''] = call;
  const nameAt = opening.indexOf(written);
  const name = aggregateFunctions.find((known) => known === written.toLowerCase());
  if (!name) {
    return {
      problem: `unknown aggregate ${quote(written)}`,
      hint: didYouMean(written, aggregateFunctions) ?? `possible: ${aggregateFunctions.join(', ')}`,
      span: [nameAt, nameAt + written.length],
    };
  }
  const scan = closingParenthesis(text, opening.length);
  if (scan.end === null) {
    const problem = scan.open === '(' ? 'a ")" is missing' : `a ${scan.open} isn't closed`;
    return { problem, span: [scan.at, text.length] };
  }
  const rest = text.slice(scan.end + 1);
  if (rest.trim() !== '') {
    const at = scan.end + 1 + (rest.length - rest.trimStart().length);
    return {
      problem: `${quote(rest.trim())} can't follow the aggregate`,
      hint: 'compute before, in a column, or after, in a query',
      span: [at, text.length],
    };
  }
  return argumentOf(name, text, opening.length, scan.end, scan.comma);
}

function argumentOf(
  name: AggregateFunction,
  text: string,
  start: number,
  end: number,
  comma: number | null,
): ParsedAggregate {
  const inside = text.slice(start, end);
  const sql = inside.trim();
  const at = start + (inside.length - inside.trimStart().length);
  const span: readonly [number, number] = [at, at + sql.length];
  if (sql === '*') {
    return name === 'count'
      ? { function: name, argument: null }
      : { problem: 'only count takes *', hint: `such as ${name}(column)`, span };
  }
  if (sql === '') {
    const hint = name === 'count' ? 'write count(*)' : `such as ${name}(column)`;
    return { problem: `${name} needs an argument`, hint, span: [0, text.length] };
  }
  if (comma !== null) {
    return { problem: `${name} takes one argument`, span: [comma, end] };
  }
  if (/^distinct\b/i.test(sql)) {
    const problem = "distinct isn't possible: its result can't be merged from two branches";
    return { problem, span: [at, at + 'distinct'.length] };
  }
  return { function: name, argument: { sql, at } };
}

interface Scan {
  /** null: there is none; then `at` says what isn't closed. */
  readonly end: number | null;
  readonly comma: number | null;
  readonly open: string;
  readonly at: number;
}

const closers: Readonly<Record<string, string>> = { '(': ')', '[': ']', '{': '}' };

/** Looks for the `)` that closes a call, over quotes, comments and nested brackets. */
function closingParenthesis(text: string, start: number): Scan {
  const open: { closer: string; at: number }[] = [{ closer: ')', at: start - 1 }];
  let comma: number | null = null;
  for (let i = start; i < text.length; i += 1) {
    const character = text.charAt(i);
    const quoted = quotes.find(([opening]) => text.startsWith(opening, i));
    if (quoted) {
      // A doubled quote, '' or "", ends one text and begins the next: no need to know it.
      const close = text.indexOf(quoted[1], i + quoted[0].length);
      if (close < 0) {
        return { end: null, comma, open: quoted[0], at: i };
      }
      i = close + quoted[1].length - 1;
    } else if (character in closers) {
      open.push({ closer: closers[character] ?? '', at: i });
    } else if (character === open.at(-1)?.closer) {
      open.pop();
      if (open.length === 0) {
        return { end: i, comma, open: '', at: i };
      }
    } else if (character === ',' && open.length === 1) {
      comma ??= i;
    }
  }
  const last = open.at(-1);
  return { end: null, comma, open: last ? text.charAt(last.at) : '(', at: last?.at ?? 0 };
}

const quotes: readonly (readonly [opening: string, closing: string])[] = [
  ["'", "'"],
  ['"', '"'],
  ['--', '\n'],
  ['/*', '*/'],
];
