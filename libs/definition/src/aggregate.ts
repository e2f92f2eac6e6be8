import type { AggregateFunction } from './model.ts';
import { quote } from './source-text.ts';
import { didYouMean } from './suggestion.ts';

export const aggregateFunctions: readonly AggregateFunction[] = [
  'count',
  'sum',
  'min',
  'max',
  'avg',
  'var_samp',
  'var_pop',
  'variance',
  'stddev_samp',
  'stddev_pop',
  'stddev',
  'bool_and',
  'bool_or',
  'first',
  'last',
  'approx_count_distinct',
  'approx_quantile',
  'approx_median',
  'histogram',
];

const rowsHint =
  'exact, keep a row per record in a table without a window, and ask for percentile_cont in a query';
const medianHint = `approx_median(x) is at most 1 % off; to have it ${rowsHint}`;
const quantileHint = `approx_quantile(x, 0.95) is at most 1 % off; to have it ${rowsHint}`;
const commonHint =
  'count(*) in a table with the value in its group_by has all of them; take the most frequent in a query';
const distinctHint =
  'approx_count_distinct(x) has a standard error of 1.6 %; to have it exact, group_by the value, and count the rows in a query';

/** What people will look for, and can't be had: its result can't be merged from two branches. */
const refused: ReadonlyMap<string, string> = new Map([
  ...['median', 'mad'].map((name) => [name, medianHint] as const),
  ...['quantile', 'quantile_cont', 'quantile_disc', 'percentile_cont', 'percentile_disc'].map(
    (name) => [name, quantileHint] as const,
  ),
  ...['mode', 'top_k', 'approx_top_k'].map((name) => [name, commonHint] as const),
]);

/** Offsets are in the text that was parsed. */
export type ParsedAggregate =
  | {
      readonly function: AggregateFunction;
      /** null: `count(*)`. */
      readonly argument: { readonly sql: string; readonly at: number } | null;
      /** See `Aggregate`. */
      readonly parameters: readonly string[];
    }
  | {
      readonly problem: string;
      readonly hint?: string;
      readonly span: readonly [number, number];
    };

/**
 * Reads `function(argument)`, or `function(argument, parameter)` of some. The argument is any SQL
 * expression: of it this checks only where it ends.
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
    const hint = refused.get(written.toLowerCase());
    if (hint !== undefined) {
      const problem = `${written} isn't possible: its result can't be merged from two branches`;
      return { problem, hint, span: [nameAt, nameAt + written.length] };
    }
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
  return argumentsOf(name, text, opening.length, { ...scan, end: scan.end });
}

function argumentsOf(
  name: AggregateFunction,
  text: string,
  start: number,
  { end, commas }: Scan & { readonly end: number },
): ParsedAggregate {
  const comma = commas[0] ?? null;
  const parameter = parameterOf.get(name);
  const inside = text.slice(start, comma ?? end);
  const sql = inside.trim();
  const at = start + (inside.length - inside.trimStart().length);
  const span: readonly [number, number] = [at, at + sql.length];
  if (sql === '*') {
    return name === 'count'
      ? { function: name, argument: null, parameters: [] }
      : { problem: 'only count takes *', hint: `such as ${name}(column)`, span };
  }
  if (sql === '') {
    const hint = name === 'count' ? 'write count(*)' : `such as ${name}(column)`;
    return { problem: `${name} needs an argument`, hint, span: [0, text.length] };
  }
  if (/^distinct\b/i.test(sql)) {
    const problem = "distinct isn't possible: its result can't be merged from two branches";
    return {
      problem,
      ...(name === 'count' ? { hint: distinctHint } : {}),
      span: [at, at + 'distinct'.length],
    };
  }
  if (!parameter) {
    return comma === null
      ? { function: name, argument: { sql, at }, parameters: [] }
      : { problem: `${name} takes one argument`, span: [comma, end] };
  }
  const parameters = commas.length === 1 ? parameter.read(text.slice((comma ?? 0) + 1, end)) : null;
  return parameters === null
    ? { problem: `${name} ${parameter.needs}`, hint: parameter.example, span: [comma ?? at, end] }
    : { function: name, argument: { sql, at }, parameters };
}

interface Parameter {
  readonly needs: string;
  readonly example: string;
  /** null: it is another one. */
  readonly read: (text: string) => readonly string[] | null;
}

/** So many digits that doubles tell two such numbers apart. */
const number = /^[+-]?(?=\d*\.?\d)(\d*)(?:\.(\d*))?$/;
const mostDigits = 15;
const mostBounds = 50;

const parameterOf: ReadonlyMap<AggregateFunction, Parameter> = new Map([
  [
    'approx_quantile',
    {
      needs: 'needs a rank from 0 to 1 as its second argument, as a number',
      example: 'such as approx_quantile(column, 0.95)',
      read: (text) => {
        const rank = decimal(text);
        return rank !== null && Number(rank) >= 0 && Number(rank) <= 1 ? [rank] : null;
      },
    },
  ],
  [
    'histogram',
    {
      needs: `needs bounds as its second argument: 1 to ${String(mostBounds)} numbers in ascending order, of at most ${String(mostDigits)} digits`,
      example: 'such as histogram(column, [0, 10, 100])',
      read: (text) => {
        const list = /^\s*\[(.*)\]\s*$/s.exec(text)?.[1]?.split(',').map(decimal) ?? [];
        const bounds = list.filter((bound) => bound !== null);
        const ascend = bounds.every((bound, i) => i === 0 || Number(bounds[i - 1]) < Number(bound));
        return list.length === bounds.length &&
          bounds.length >= 1 &&
          bounds.length <= mostBounds &&
          ascend
          ? bounds
          : null;
      },
    },
  ],
]);

/** The number as SQL takes it, without what says nothing; null: it is none, or too long. */
function decimal(text: string): string | null {
  const found = number.exec(text.trim());
  if (!found) {
    return null;
  }
  const whole = (found[1] ?? '').replace(/^0+/, '');
  const rest = (found[2] ?? '').replace(/0+$/, '');
  if (whole.length + rest.length > mostDigits) {
    return null;
  }
  const digits = `${whole || '0'}${rest ? `.${rest}` : ''}`;
  return text.trim().startsWith('-') && digits !== '0' ? `-${digits}` : digits;
}

interface Scan {
  /** null: there is none; then `at` says what isn't closed. */
  readonly end: number | null;
  /** Between the arguments. */
  readonly commas: readonly number[];
  readonly open: string;
  readonly at: number;
}

const closers: Readonly<Record<string, string>> = { '(': ')', '[': ']', '{': '}' };

/** Looks for the `)` that closes a call, over quotes, comments and nested brackets. */
function closingParenthesis(text: string, start: number): Scan {
  const open: { closer: string; at: number }[] = [{ closer: ')', at: start - 1 }];
  const commas: number[] = [];
  for (let i = start; i < text.length; i += 1) {
    const character = text.charAt(i);
    const quoted = quotes.find(([opening]) => text.startsWith(opening, i));
    if (quoted) {
      // A doubled quote, '' or "", ends one text and begins the next: no need to know it.
      const close = text.indexOf(quoted[1], i + quoted[0].length);
      if (close < 0) {
        return { end: null, commas, open: quoted[0], at: i };
      }
      i = close + quoted[1].length - 1;
    } else if (character in closers) {
      open.push({ closer: closers[character] ?? '', at: i });
    } else if (character === open.at(-1)?.closer) {
      open.pop();
      if (open.length === 0) {
        return { end: i, commas, open: '', at: i };
      }
    } else if (character === ',' && open.length === 1) {
      commas.push(i);
    }
  }
  const last = open.at(-1);
  return { end: null, commas, open: last ? text.charAt(last.at) : '(', at: last?.at ?? 0 };
}

const quotes: readonly (readonly [opening: string, closing: string])[] = [
  ["'", "'"],
  ['"', '"'],
  ['--', '\n'],
  ['/*', '*/'],
];
