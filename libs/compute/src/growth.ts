import {
  childrenOf,
  columnNames,
  constantValue,
  type ExpressionNode,
  functionName,
} from './expression-tree.ts';

/**
 * How often a value may hold each field of the record, at the most: `concat(a, a, b)` has a twice and b
 * once. Its length is about that many times the record's, so this bounds what an expression may
 * take of memory before any record has come. Constants are left out, since a definition's are short.
 */
export type Growth = ReadonlyMap<string, number>;

/** A value may be so many times as long as its record. */
export const mostGrowth = 100;

/** Functions whose result has all of their arguments in it; others have one, or less. */
const joining = new Set(
  `|| concat concat_ws list_concat list_value list_zip array_to_string json_array json_object
  row struct_pack map map_from_entries`.split(/\s+/),
);

/** How much longer than their arguments results may be. */
const stretching: ReadonlyMap<string, number> = new Map([
  ...['json_quote', 'to_json', 'json_array', 'json_object', 'regexp_escape'].map(
    (name) => [name, 2] as const,
  ),
  ...['hex', 'to_hex', 'base64', 'to_base64'].map((name) => [name, 2] as const),
  ...['bin', 'to_binary'].map((name) => [name, 8] as const),
  ...['url_encode', 'nfc_normalize'].map((name) => [name, 3] as const),
  ['translate', 4],
]);

const lambdaFunctions = new Set(['list_transform', 'list_filter']);

/** Why the growth has no bound. */
export interface Unbounded {
  readonly message: string;
  readonly hint: string;
  readonly node: ExpressionNode;
}

export function isUnbounded(growth: Growth | Unbounded): growth is Unbounded {
  return 'message' in growth;
}

/** The most that a value has of any one field. */
export function largest(growth: Growth): number {
  return Math.max(0, ...growth.values());
}

/** @param columns of what the names are made, in lower case; a name that isn't there is a field */
export function growthOf(
  node: ExpressionNode,
  columns: ReadonlyMap<string, Growth>,
): Growth | Unbounded {
  if (node.class === 'COLUMN_REF') {
    const name = (columnNames(node).at(-1) ?? '').toLowerCase();
    return columns.get(name) ?? new Map([[name, 1]]);
  }
  const name = node.class === 'FUNCTION' ? functionName(node) : '';
  if (lambdaFunctions.has(name)) {
    return lambdaGrowth(node, columns);
  }
  const grown = childrenOf(node).map((child) => growthOf(child, columns));
  const parts: Growth[] = [];
  for (const part of grown) {
    if (isUnbounded(part)) {
      return part;
    }
    parts.push(part);
  }
  const factor = factorOf(node, name);
  if (typeof factor !== 'number') {
    return factor;
  }
  const merge = joining.has(name)
    ? (a: number, b: number): number => a + b
    : (a: number, b: number): number => Math.max(a, b);
  const all = new Map<string, number>();
  for (const part of parts) {
    for (const [field, times] of part) {
      all.set(field, merge(all.get(field) ?? 0, times));
    }
  }
  return new Map([...all].map(([field, times]) => [field, times * factor]));
}

/** The parameter stands for the list's elements, which together are as long as the list. */
function lambdaGrowth(
  node: ExpressionNode,
  columns: ReadonlyMap<string, Growth>,
): Growth | Unbounded {
  const [list, lambda] = childrenOf(node);
  const { lhs, expr } = (lambda ?? {}) as { lhs?: ExpressionNode; expr?: ExpressionNode };
  const of = list === undefined ? new Map<string, number>() : growthOf(list, columns);
  if (lhs === undefined || expr === undefined || isUnbounded(of)) {
    return of;
  }
  const parameters = lambdaParameters(lhs);
  const foreign = foreignColumn(expr, new Set(parameters));
  if (foreign !== null) {
    // It would be there once for each element: a long list times a long text.
    return {
      message: `a lambda may use nothing but its own parameters (${parameters.join(', ')})`,
      hint: 'what else it needs must be a constant',
      node: foreign,
    };
  }
  return growthOf(expr, new Map(parameters.map((name) => [name, of])));
}

function lambdaParameters(lhs: ExpressionNode): string[] {
  const nodes = lhs.class === 'COLUMN_REF' ? [lhs] : childrenOf(lhs);
  return nodes.map((one) => (columnNames(one).at(-1) ?? '').toLowerCase());
}

function foreignColumn(node: ExpressionNode, own: ReadonlySet<string>): ExpressionNode | null {
  if (node.class === 'COLUMN_REF') {
    return own.has((columnNames(node)[0] ?? '').toLowerCase()) ? null : node;
  }
  const children = childrenOf(node);
  const isLambda = node.class === 'FUNCTION' && lambdaFunctions.has(functionName(node));
  // A lambda within is looked at on its own.
  for (const child of isLambda ? children.slice(0, 1) : children) {
    const found = foreignColumn(child, own);
    if (found !== null) {
      return found;
    }
  }
  return null;
}

function factorOf(node: ExpressionNode, name: string): number | Unbounded {
  const args = childrenOf(node);
  const text = (at: number, what: string): string | Unbounded =>
    constantText(args[at]) ?? {
      message: `${what} in ${name} must be a constant text`,
      hint: `as in ${name}(…, '${at === 1 ? ',' : '-'}')`,
      node,
    };
  switch (name) {
    case 'replace': {
      const by = text(2, 'the replacement');
      // Whatever chr() gives, it isn't empty.
      const what = constantValue(args[1]);
      return typeof by === 'string'
        ? Math.max(
            1,
            Math.ceil(bytes(by) / Math.max(1, typeof what === 'string' ? bytes(what) : 1)),
          )
        : by;
    }
    case 'regexp_replace': {
      const by = text(2, 'the replacement');
      if (typeof by !== 'string') {
        return by;
      }
      const options = args[3] === undefined ? '' : constantText(args[3]);
      // A match may be empty, and there is one at each character; \0 to \9 are parts of the text again.
      return options?.includes('g') === false
        ? 1 + (by.match(/\\\d/g)?.length ?? 0)
        : 1 + bytes(by);
    }
    case 'array_to_string': {
      const separator = args[1] === undefined ? ',' : text(1, 'the separator');
      return typeof separator === 'string' ? 1 + bytes(separator) : separator;
    }
    default:
      return stretching.get(name) ?? 1;
  }
}

const bytes = (value: string): number => Buffer.byteLength(value);

/** Also `chr(10)`, which is how a line feed is written. */
function constantText(node: ExpressionNode | undefined): string | undefined {
  const value = constantValue(node);
  if (typeof value === 'string') {
    return value;
  }
  if (node?.class === 'FUNCTION' && functionName(node) === 'chr') {
    const code = constantValue(childrenOf(node)[0]);
    return typeof code === 'number' ? '\u{10000}' : undefined;
  }
  return undefined;
}
