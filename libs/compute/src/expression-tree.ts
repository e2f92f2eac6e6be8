/**
 * DuckDB's parse of an expression, as `json_serialize_sql` writes it: objects with a class and more,
 * nested in fields and arrays that depend on the class.
 */
export interface ExpressionNode {
  readonly class: string;
  readonly type: string;
  readonly alias?: string;
  /** In bytes of the statement; 2^64 - 1 where DuckDB doesn't know. */
  readonly query_location?: number;
  readonly [field: string]: unknown;
}

export function isExpressionNode(value: unknown): value is ExpressionNode {
  return (
    typeof value === 'object' &&
    value !== null &&
    typeof (value as ExpressionNode).class === 'string' &&
    typeof (value as ExpressionNode).type === 'string'
  );
}

/** The expressions that a node is made of, in the order of the text as far as DuckDB keeps it. */
export function childrenOf(node: ExpressionNode): ExpressionNode[] {
  const children: ExpressionNode[] = [];
  const collect = (value: unknown): void => {
    if (isExpressionNode(value)) {
      children.push(value);
    } else if (Array.isArray(value)) {
      value.forEach(collect);
    } else if (typeof value === 'object' && value !== null) {
      Object.values(value).forEach(collect);
    }
  };
  Object.values(node).forEach(collect);
  return children;
}

/** How many expressions are in one another, where they are most. */
export function depthOf(tree: ExpressionNode): number {
  let level = [tree];
  let depth = 0;
  for (; level.length > 0; depth++) {
    level = level.flatMap(childrenOf);
  }
  return depth;
}

/** The names of a column reference; empty for other nodes. */
export function columnNames(node: ExpressionNode): readonly string[] {
  const names = node['column_names'];
  return node.class === 'COLUMN_REF' && Array.isArray(names) ? names.map(String) : [];
}

/** A constant's value, null for NULL; undefined for other nodes. */
export function constantValue(node: ExpressionNode | undefined): unknown {
  const value = node?.class === 'CONSTANT' ? node['value'] : undefined;
  if (typeof value !== 'object' || value === null) {
    return undefined;
  }
  return 'value' in value ? value.value : null;
}

export function functionName(node: ExpressionNode): string {
  return typeof node['function_name'] === 'string' ? node['function_name'].toLowerCase() : '';
}

/** What a parsed statement is, before one looks into its expression. */
export interface ParsedStatement {
  readonly node: {
    readonly type: string;
    readonly modifiers?: readonly unknown[];
    readonly cte_map?: { readonly map: readonly unknown[] };
    readonly select_list?: readonly ExpressionNode[];
    readonly from_table?: { readonly type: string } | null;
    readonly where_clause?: unknown;
    readonly group_expressions?: readonly unknown[];
    readonly having?: unknown;
    readonly sample?: unknown;
    readonly qualify?: unknown;
  };
}

export type ParseResult =
  | { readonly error: false; readonly statements: readonly ParsedStatement[] }
  | {
      readonly error: true;
      readonly error_type: string;
      readonly error_message: string;
      readonly position?: string;
    };

/** The statement's expression if it is `SELECT expression` and nothing more. */
export function onlyExpression({ node }: ParsedStatement): ExpressionNode | null {
  const list = node.select_list ?? [];
  const bare =
    node.type === 'SELECT_NODE' &&
    (node.modifiers ?? []).length === 0 &&
    (node.cte_map?.map ?? []).length === 0 &&
    (node.from_table?.type ?? 'EMPTY') === 'EMPTY' &&
    (node.group_expressions ?? []).length === 0 &&
    [node.where_clause, node.having, node.sample, node.qualify].every(
      (part) => part === null || part === undefined,
    );
  return bare && list.length === 1 ? (list[0] ?? null) : null;
}
