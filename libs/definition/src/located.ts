import { isAlias, isMap, isScalar, isSeq, parseDocument, Scalar } from 'yaml';
import type { Document, Node, ParsedNode, YAMLMap, YAMLSeq } from 'yaml';
import type { Problem } from './errors.ts';
import { quote, type SourceText } from './source-text.ts';

/** Start and end offset in the source text. */
export type Span = readonly [number, number];

/** A value of a YAML or JSON file, and where it stands. */
export interface Located {
  /** Plain: null, boolean, number, string, array, or object without a prototype. */
  readonly value: unknown;
  readonly span: Span;
  /** Where the key stands, for a value of a map. */
  readonly keySpan: Span | null;
  readonly children: ReadonlyMap<string | number, Located>;
  /** How a scalar is written; null for maps and lists. */
  readonly style: Scalar.Type | null;
  /** Values in it, itself included, with aliases expanded. */
  readonly size: number;
}

/** A definition has some hundred values; what exceeds this is an alias bomb, or no definition. */
export const maxValues = 20_000;

/**
 * Reads YAML 1.2 (and so JSON) into plain values with positions. Anchors and aliases work; tags,
 * keys that aren't text, duplicate keys, several documents and `__proto__` are problems.
 *
 * Own walk instead of `toJS`, which knows no positions, and whose check for duplicate keys is
 * quadratic.
 *
 * @returns null if there is nothing to go on with; then `problems` says why
 */
export function readLocated(source: SourceText, problems: Problem[]): Located | null {
  const document = parse(source.text);
  // Only the first: those behind it mostly follow from it.
  const [error] = document.errors.toSorted((a, b) => a.pos[0] - b.pos[0]);
  const exhausted = document.errors.find(({ code }) => code === 'RESOURCE_EXHAUSTION');
  if (exhausted) {
    problems.push(source.problem([exhausted.pos[0], exhausted.pos[0] + 1], 'nested too deeply'));
    return null;
  }
  if (error) {
    const [message, hint] = syntaxMessage(error.code, error.message);
    problems.push(source.problem(error.pos, message, hint));
    return null;
  }
  if (document.contents === null) {
    return { value: null, span: [0, 0], keySpan: null, children: new Map(), style: null, size: 1 };
  }
  try {
    return new Reader(source, problems).read(document.contents, null);
  } catch (problem) {
    if (problem instanceof TooLarge) {
      problems.push(source.problem(problem.span, `has more than ${String(maxValues)} values`));
      return null;
    }
    throw problem;
  }
}

/** A text may have an error at each character, and the trace of each takes longer than to find it. */
function parse(text: string): Document.Parsed {
  const { stackTraceLimit } = Error;
  Error.stackTraceLimit = 0;
  try {
    return parseDocument(text, { uniqueKeys: false, prettyErrors: false, logLevel: 'error' });
  } finally {
    Error.stackTraceLimit = stackTraceLimit;
  }
}

function syntaxMessage(code: string, message: string): [string, string?] {
  switch (code) {
    case 'TAB_AS_INDENT':
      return ["a tab can't indent YAML", 'use spaces'];
    case 'MULTIPLE_DOCS':
      return ['a second document begins here', 'only one per file'];
    default:
      return [message.charAt(0).toLowerCase() + message.slice(1)];
  }
}

class TooLarge extends Error {
  readonly span: Span;

  constructor(span: Span) {
    super('too many values');
    this.span = span;
  }
}

class Reader {
  readonly #source: SourceText;
  readonly #problems: Problem[];
  /** Only what has been read to its end: so an alias can't contain itself. */
  readonly #anchors = new Map<string, Located>();

  constructor(source: SourceText, problems: Problem[]) {
    this.#source = source;
    this.#problems = problems;
  }

  read(node: ParsedNode | Node | null, keySpan: Span | null): Located {
    if (node === null) {
      const at = keySpan?.[1] ?? 0;
      return this.#leaf(null, [at, at], keySpan, null);
    }
    const span = spanOf(node);
    if (isAlias(node)) {
      const target = this.#anchors.get(node.source);
      if (target) {
        return { ...target, keySpan };
      }
      this.#report(span, `there is no anchor ${quote(`&${node.source}`)} in front of this`);
      return this.#leaf(null, span, keySpan, null);
    }
    if (node.tag !== undefined) {
      this.#report(span, `the tag ${quote(node.tag)} isn't supported`, 'leave it out');
    }
    const located = this.#readValue(node, span, keySpan);
    if (located.size > maxValues) {
      throw new TooLarge(keySpan ?? span);
    }
    if ('anchor' in node && node.anchor !== undefined) {
      this.#anchors.set(node.anchor, located);
    }
    return located;
  }

  #readValue(node: Node, span: Span, keySpan: Span | null): Located {
    if (isMap(node)) {
      return this.#readMap(node as YAMLMap<Node, Node | null>, span, keySpan);
    }
    if (isSeq(node)) {
      return this.#readList(node as YAMLSeq<Node | null>, span, keySpan);
    }
    const scalar: unknown = isScalar(node) ? node.value : null;
    const style = (isScalar(node) && node.type) || null;
    if (typeof scalar === 'string' && (scalar.includes('\0') || !scalar.isWellFormed())) {
      this.#report(span, 'has a character that no text column can hold');
      return this.#leaf('', span, keySpan, style);
    }
    return this.#leaf(scalar, span, keySpan, style);
  }

  #readMap(node: YAMLMap<Node, Node | null>, span: Span, keySpan: Span | null): Located {
    const value = Object.create(null) as Record<string, unknown>;
    const children = new Map<string, Located>();
    let size = 1;
    for (const pair of node.items) {
      const name = this.#readKey(pair.key);
      const child = this.read(pair.value, spanOf(pair.key));
      size += child.size;
      const first = name === null ? undefined : children.get(name);
      if (name !== null && first) {
        const { line } = this.#source.position(first.keySpan?.[0] ?? 0);
        this.#report(spanOf(pair.key), `the key ${quote(name)} is in line ${String(line)} already`);
      } else if (name !== null) {
        children.set(name, child);
        value[name] = child.value;
      }
    }
    return { value, span, keySpan, children, style: null, size };
  }

  #readKey(key: Node): string | null {
    const name: unknown = isScalar(key) ? key.value : undefined;
    if (typeof name !== 'string') {
      this.#report(spanOf(key), 'a key must be text', 'put it in quotes');
      return null;
    }
    if (name === '__proto__' || name.includes('\0') || !name.isWellFormed()) {
      this.#report(spanOf(key), `${quote(name)} can't be a key`);
      return null;
    }
    return name;
  }

  #readList(node: YAMLSeq<Node | null>, span: Span, keySpan: Span | null): Located {
    const value: unknown[] = [];
    const children = new Map<number, Located>();
    let size = 1;
    for (const [index, item] of node.items.entries()) {
      // `- a: 1` is a map; a pair stands alone only in `[a: 1]`, which the parser wraps in one.
      const child = this.read(item, null);
      size += child.size;
      children.set(index, child);
      value.push(child.value);
    }
    return { value, span, keySpan, children, style: null, size };
  }

  #leaf(value: unknown, span: Span, keySpan: Span | null, style: Scalar.Type | null): Located {
    return { value, span, keySpan, children: new Map(), style, size: 1 };
  }

  #report(span: Span, message: string, hint?: string): void {
    this.#problems.push(this.#source.problem(span, message, hint));
  }
}

function spanOf(node: Node): Span {
  return node.range ? [node.range[0], node.range[1]] : [0, 0];
}

/**
 * Offset in the file of a character of a text value: aligns the value with the way it is written
 * (quotes, folded lines, indentation). Behind an escape that it doesn't know, the last offset known.
 */
export function offsetWithin(source: SourceText, located: Located, index: number): number {
  const { value, style } = located;
  const [start, end] = located.span;
  if (typeof value !== 'string') {
    return start;
  }
  let at = start;
  if (style === Scalar.QUOTE_DOUBLE || style === Scalar.QUOTE_SINGLE) {
    at += 1;
  } else if (style === Scalar.BLOCK_LITERAL || style === Scalar.BLOCK_FOLDED) {
    const headerEnd = source.text.indexOf('\n', start);
    at = headerEnd < 0 ? start : headerEnd + 1;
  }
  const escape = { [Scalar.QUOTE_DOUBLE]: '\\', [Scalar.QUOTE_SINGLE]: "'" }[style as string];
  for (let i = 0; i < value.length; i += 1) {
    const wanted = value.charAt(i);
    if (!isSpace(wanted)) {
      while (at < end && isSpace(source.text.charAt(at))) {
        at += 1;
      }
      const next = source.text.charAt(at + 1);
      if (source.text.charAt(at) === escape && next === wanted) {
        at += 1;
      }
      if (at >= end || source.text.charAt(at) !== wanted) {
        return Math.min(at, end);
      }
    }
    if (i >= index) {
      return at;
    }
    if (!isSpace(wanted)) {
      at += 1;
    }
  }
  return at;
}

function isSpace(character: string): boolean {
  return character === ' ' || character === '\n' || character === '\t' || character === '\r';
}

/** The located value at a path, or the nearest one around it. */
export function locate(root: Located, path: readonly PropertyKey[]): Located {
  let here = root;
  for (const step of path) {
    const child = typeof step === 'symbol' ? undefined : here.children.get(step);
    if (!child) {
      return here;
    }
    here = child;
  }
  return here;
}
