import type { Field } from '@anabranch/definition';
import {
  childrenOf,
  columnNames,
  constantValue,
  type ExpressionNode,
  functionName,
} from './expression-tree.ts';

/*
 * How long an expression may take on one record, told from its tree alone; growth.ts bounds what it takes
 * of memory. DuckDB can't be interrupted within a function: levenshtein(a, b) of two texts of a mebibyte
 * would hold up a partition for hours, and after each restart again, since the record is still there.
 * Constants alone can do it too, where DuckDB folds them as a service starts: forty times hex(…).
 */

/** Bytes of the texts that are looked at: a short one for what constants do, and a long one. */
const textBytes = [16, 1024 * 1024] as const;
/** Bytes that one value may have then. */
const mostBytes = [64 * 1024, Number.POSITIVE_INFINITY] as const;
/** Bytes looked at, at one to some nanoseconds each, that one record may take. */
const mostWork = [1e7, 2 ** 32] as const;

/** Bytes of a value, for a short and a long text. */
export type Sizes = readonly [short: number, long: number];

const textSizes: Sizes = textBytes;
/** A number, a time, true or false, one of some symbols. */
export const smallSizes: Sizes = [16, 16];

/** Of a source's fields, by their names in lower case. */
export function fieldSizes(fields: readonly Field[]): Map<string, Sizes> {
  return new Map(
    fields.map(({ name, type }) => [
      name.toLowerCase(),
      type.kind === 'string' ? textSizes : smallSizes,
    ]),
  );
}

export interface CostProblem {
  readonly node: ExpressionNode;
  readonly message: string;
  readonly hint: string;
}

/**
 * @param sizeOf of the columns, by their names in lower case; undefined: a text of any length
 * @returns how large the value may get, or what is wrong
 */
export function costOf(
  tree: ExpressionNode,
  sizeOf: (name: string) => Sizes | undefined,
): Sizes | CostProblem {
  const sizes: number[] = [];
  for (const [i, bytes] of textBytes.entries()) {
    try {
      const estimate = new Estimate(mostBytes[i] ?? 0, mostWork[i] ?? 0);
      const columns = (name: string): number => sizeOf(name)?.[i] ?? bytes;
      sizes.push(estimate.of(tree, columns, 0).size);
    } catch (error) {
      if (error instanceof Refused) {
        return error.problem;
      }
      throw error;
    }
  }
  return [sizes[0] ?? 0, sizes[1] ?? 0];
}

class Refused extends Error {
  readonly problem: CostProblem;

  constructor(problem: CostProblem) {
    super(problem.message);
    this.problem = problem;
  }
}

interface Cost {
  readonly size: number;
  /** Of the value and all that it is made of. */
  readonly work: number;
}

type SizeOf = (name: string) => number;

const small = 16;
/** An element of a list takes as much beside its own bytes. */
const elementBytes = 16;
/** Deeper ones would be gone through too often, here and in DuckDB. */
const deepestLambda = 3;
const shorten = 'shorten the texts first, as in left(…, 10000)';

class Estimate {
  readonly #mostBytes: number;
  readonly #mostWork: number;

  constructor(bytes: number, work: number) {
    this.#mostBytes = bytes;
    this.#mostWork = work;
  }

  /** @throws Refused */
  of(node: ExpressionNode, sizeOf: SizeOf, lambdas: number): Cost {
    const cost = this.#estimate(node, sizeOf, lambdas);
    const name = functionName(node) || 'it';
    if (cost.size > this.#mostBytes) {
      const message = `${name} makes too long a value, whatever the record`;
      throw new Refused({ node, message, hint: shorten });
    }
    if (cost.work > this.#mostWork) {
      const isPattern = patterns.has(name);
      throw new Refused({
        node,
        message: `${name} can take far too long on one record`,
        hint: isPattern ? `use regexp_matches, or ${shorten}` : shorten,
      });
    }
    return cost;
  }

  #estimate(node: ExpressionNode, sizeOf: SizeOf, lambdas: number): Cost {
    const value = constantValue(node);
    if (value !== undefined) {
      const size = typeof value === 'string' ? Buffer.byteLength(value) + small : small;
      return { size, work: size };
    }
    if (node.class === 'COLUMN_REF') {
      const size = sizeOf((columnNames(node)[0] ?? '').toLowerCase());
      return { size, work: size };
    }
    const children = childrenOf(node);
    const [first, second] = children;
    if (second?.class === 'LAMBDA' && first !== undefined) {
      return this.#overList(node, first, second, sizeOf, lambdas);
    }
    const costs = children.map((child) => this.of(child, sizeOf, lambdas));
    const sizes = costs.map(({ size }) => size);
    const read = sum(sizes);
    const size = sizeOfValue(node, children, sizes);
    const work = ownWork(node, children, sizes) ?? read;
    return { size, work: sum(costs.map((cost) => cost.work)) + work + size };
  }

  /** list_transform and list_filter. */
  #overList(
    node: ExpressionNode,
    list: ExpressionNode,
    lambda: ExpressionNode,
    sizeOf: SizeOf,
    lambdas: number,
  ): Cost {
    if (lambdas >= deepestLambda) {
      const message = 'lambdas are nested too deeply';
      throw new Refused({ node: lambda, message, hint: 'two in one another are possible' });
    }
    const { lhs, expr } = lambda as { lhs?: ExpressionNode; expr?: ExpressionNode };
    const lefts = lhs === undefined ? [] : lhs.class === 'COLUMN_REF' ? [lhs] : childrenOf(lhs);
    const parameters = new Set(lefts.map((left) => (columnNames(left)[0] ?? '').toLowerCase()));
    const source = this.of(list, sizeOf, lambdas);
    const withElements = (bytes: number): SizeOf => {
      return (name) => (parameters.has(name) ? bytes : sizeOf(name));
    };
    if (expr === undefined) {
      return source;
    }
    // Many small elements, or one that has it all: what costs in proportion lies between.
    const count = Math.max(1, source.size / elementBytes);
    const each = this.of(expr, withElements(small), lambdas + 1);
    const one = this.of(expr, withElements(source.size), lambdas + 1);
    const made = count * (each.size + elementBytes) + one.size;
    const size = functionName(node) === 'list_filter' ? source.size : made;
    return { size, work: source.work + count * each.work + one.work + size };
  }
}

const sum = (numbers: readonly number[]): number => numbers.reduce((all, one) => all + one, 0);

const words = (text: string): string[] => text.trim().split(/\s+/);

/** Functions whose value is a number, a time, or true or false. */
const plainValues: ReadonlySet<string> = new Set(
  words(`
  + - * / // % ^ ** & | ~ << >> ^@ && @> <@ ~~ !~~ ~~* !~~* ~~~ like_escape not_like_escape ilike_escape not_ilike_escape
  add subtract multiply divide mod fmod fdiv abs sign ceil ceiling floor round sqrt exp ln log pow power
  ascii ord unicode contains prefix suffix starts_with ends_with instr position strpos
  len length length_grapheme char_length character_length strlen bit_length octet_length
  damerau_levenshtein editdist3 levenshtein hamming mismatches jaccard jaro_similarity jaro_winkler_similarity
  regexp_full_match regexp_matches date_diff date_part date_sub datediff datepart datesub epoch epoch_ms epoch_us
  year month day hour minute second time_bucket date_trunc json_array_length json_exists json_valid
  array_contains array_has array_has_all array_has_any array_indexof array_length array_position
  list_contains list_has list_has_all list_has_any list_indexof list_position list_avg list_sum list_count
  md5 sha1 sha256 cardinality map_contains`),
);

/** What a text may be longer than what it is made of: by escapes, digits, other letters. */
const growth: ReadonlyMap<string, number> = new Map(
  Object.entries({
    hex: 2,
    to_hex: 2,
    bin: 8,
    to_binary: 8,
    base64: 2,
    to_base64: 2,
    url_encode: 3,
    lower: 3,
    lcase: 3,
    upper: 3,
    ucase: 3,
    nfc_normalize: 3,
    translate: 4,
    regexp_escape: 2,
    strftime: 16,
    json: 6,
    json_quote: 6,
    to_json: 6,
    json_array: 6,
    json_object: 6,
  }),
);

/** Functions that make a list of a text: of its characters, where it gets longest. */
const splits: ReadonlySet<string> = new Set(
  words(`regexp_extract_all regexp_split_to_array split str_split str_split_regex string_split string_split_regex
  string_to_array json_keys`),
);

/** Their second argument, from the end on, is a number of characters to keep. */
const cuts: ReadonlySet<string> = new Set(words('left right substr substring'));

/** They search the text again behind each match. */
const repeats: ReadonlySet<string> = new Set(
  words('regexp_extract_all regexp_split_to_array str_split_regex string_split_regex'),
);

/** They compare each character of one text with each of the other. */
const products: ReadonlySet<string> = new Set(
  words('damerau_levenshtein editdist3 levenshtein jaro_similarity jaro_winkler_similarity'),
);

/** Patterns of which DuckDB tries each way to match: once more through the text for each wildcard. */
const patterns: ReadonlySet<string> = new Set(
  words('~~ !~~ ~~* !~~* ~~~ like_escape not_like_escape ilike_escape not_ilike_escape'),
);

function sizeOfValue(
  node: ExpressionNode,
  children: readonly ExpressionNode[],
  sizes: readonly number[],
): number {
  const read = sum(sizes) + small;
  const [first = 0, second = 0, third = 0] = sizes;
  switch (node.class) {
    case 'CASE':
      return Math.max(small, ...sizes);
    case 'COMPARISON':
    case 'CONJUNCTION':
    case 'BETWEEN':
      return small;
    case 'CAST':
      return castSize(node, first);
    case 'OPERATOR':
      if (node.type === 'OPERATOR_COALESCE') {
        return Math.max(small, ...sizes);
      }
      return /^(COMPARE_|OPERATOR_(NOT|IS_))/.test(node.type)
        ? small
        : read + elementBytes * sizes.length;
    case 'FUNCTION':
      break;
    default:
      return read;
  }
  const name = functionName(node);
  if (plainValues.has(name)) {
    return small;
  }
  if (splits.has(name)) {
    return read * (1 + elementBytes);
  }
  if (cuts.has(name)) {
    const characters = constantValue(children.at(-1));
    return typeof characters === 'number' && characters >= 0
      ? Math.min(first, 4 * characters + small)
      : first;
  }
  if (name === 'lpad' || name === 'rpad') {
    const characters = constantValue(children[1]);
    return 4 * (typeof characters === 'number' ? characters : 0) + small;
  }
  if (name === 'replace') {
    const from = constantValue(children[1]);
    const replaced = typeof from === 'string' ? Math.max(1, from.length) : 1;
    return first * Math.max(1, bytesOf(children[2], third) / replaced);
  }
  if (name === 'regexp_replace') {
    return first * (1 + bytesOf(children[2], third));
  }
  if (name === 'array_to_string') {
    return first + (first / elementBytes) * bytesOf(children[1], second);
  }
  if (name === 'concat_ws') {
    return read + first * sizes.length;
  }
  return read * (growth.get(name) ?? 1) + elementBytes * sizes.length;
}

/** A constant's own bytes, without what any value takes. */
function bytesOf(node: ExpressionNode | undefined, size: number): number {
  const value = constantValue(node);
  return typeof value === 'string' ? Buffer.byteLength(value) : size;
}

function castSize(node: ExpressionNode, from: number): number {
  const { id } = (node['cast_type'] ?? {}) as { id?: string };
  switch (id) {
    case 'VARCHAR':
      // Lists as text: quotes and commas; a plain value: its digits.
      return 2 * from + 64;
    case 'LIST':
    case 'ARRAY':
    case 'STRUCT':
    case 'MAP':
    case 'UNBOUND':
    case 'BLOB':
    case 'BIT':
    case 'VARIANT':
    case undefined:
      return elementBytes * from;
    default:
      return 40;
  }
}

/** undefined: in proportion to what it reads. */
function ownWork(
  node: ExpressionNode,
  children: readonly ExpressionNode[],
  sizes: readonly number[],
): number | undefined {
  const name = functionName(node);
  const [first = 0, second = 0] = sizes;
  if (products.has(name)) {
    return first * second;
  }
  const pattern = constantValue(children[1]);
  if (repeats.has(name) || (name === 'regexp_replace' && isGlobal(children[3]))) {
    return isSearchedOnce(pattern) ? undefined : first * first;
  }
  if (!patterns.has(name)) {
    return undefined;
  }
  if (typeof pattern !== 'string') {
    return first ** Math.max(1, second / 2);
  }
  // Only this one is searched for piece by piece.
  if ((name === '~~' || name === '!~~') && !pattern.includes('_')) {
    return first + second;
  }
  const wildcards = pattern.replace(/[%*]+$/, '').match(name === '~~~' ? /\*+/g : /%+/g);
  return first ** Math.max(1, wildcards?.length ?? 0);
}

function isGlobal(options: ExpressionNode | undefined): boolean {
  const value = options === undefined ? '' : constantValue(options);
  return typeof value !== 'string' || value.includes('g');
}

/**
 * A search that may run to the end of the text for a longer match, and then takes a short one, runs there
 * again for the next: `a*?b|a` takes two minutes for 100,000 times the a.
 */
function isSearchedOnce(pattern: unknown): boolean {
  return typeof pattern === 'string' && !(/[*+]|,\}/.test(pattern) && /[|?]|\)[*{]/.test(pattern));
}
