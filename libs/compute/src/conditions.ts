import { type ExpressionNode, isExpressionNode } from './expression-tree.ts';

/*
 * DuckDB computes AND and OR in two ways. As a condition (of WHERE and of CASE) it computes the terms
 * from left to right, each for the rows that still need it. As a value it computes all terms for all
 * rows of a vector, unless the terms so far decide all of them: then `n < 3 OR CAST(s AS integer) > 5`
 * fails on a record or doesn't, depending on the records beside it, and so on the split.
 *
 * So every AND and OR of the user's is made a condition. (Two optimizers that would undo it are off,
 * see engine.ts. At run time DuckDB reorders the terms of conditions only if none can fail.)
 */

/** A boolean expression as a condition: NULL is false. */
export function asCondition(expression: string): string {
  return `CASE WHEN ${expression} THEN true ELSE false END`;
}

/**
 * Makes conditions of an expression's ANDs and ORs where they aren't: `a AND b` becomes `CASE WHEN
 * a AND b THEN true WHEN NOT a OR NOT b THEN false END`.
 *
 * @param isCondition whether the expression as a whole is one
 * @returns null if there is nothing to change
 * @throws TooManyConditions
 */
export function withConditions(tree: ExpressionNode, isCondition: boolean): ExpressionNode | null {
  const rewriting = new Rewriting();
  const rewritten = isCondition ? rewriting.condition(tree) : rewriting.value(tree);
  return rewriting.changed ? rewritten : null;
}

/** Each AND that isn't a condition is written twice, and so are those within it. */
const mostNodes = 20_000;

/** An expression would have too many nodes with its ANDs and ORs as conditions. */
export class TooManyConditions extends Error {}

class Rewriting {
  changed = false;
  #nodes = 0;

  condition(node: ExpressionNode): ExpressionNode {
    if (node.class === 'CONJUNCTION') {
      return this.#map(node, (child) => this.condition(child));
    }
    const [inner] = node.type === 'OPERATOR_NOT' ? childList(node) : [];
    if (inner?.type === 'OPERATOR_NOT') {
      return this.condition(childList(inner)[0] ?? inner);
    }
    return inner?.class === 'CONJUNCTION' ? this.condition(negated(inner)) : this.value(node);
  }

  value(node: ExpressionNode): ExpressionNode {
    if (node.class === 'CONJUNCTION') {
      this.changed = true;
      return caseOf(node, [
        [this.condition(node), true],
        [this.condition(negated(node)), false],
      ]);
    }
    if (node.class === 'CASE') {
      return this.#map(node, (child, field) =>
        field === 'when_expr' ? this.condition(child) : this.value(child),
      );
    }
    return this.#map(node, (child) => this.value(child));
  }

  /** A copy with other children. */
  #map(
    node: ExpressionNode,
    change: (child: ExpressionNode, field: string) => ExpressionNode,
  ): ExpressionNode {
    if (++this.#nodes > mostNodes) {
      throw new TooManyConditions();
    }
    const copy = (value: unknown, field: string): unknown => {
      if (isExpressionNode(value)) {
        return change(value, field);
      }
      if (Array.isArray(value)) {
        return value.map((item: unknown) => copy(item, field));
      }
      return typeof value === 'object' && value !== null && Object.getPrototypeOf(value) !== null
        ? Object.fromEntries(Object.entries(value).map(([key, item]) => [key, copy(item, key)]))
        : value;
    };
    return Object.fromEntries(
      Object.entries(node).map(([key, item]) => [key, copy(item, key)]),
    ) as unknown as ExpressionNode;
  }
}

function childList(node: ExpressionNode): readonly ExpressionNode[] {
  return Array.isArray(node['children']) ? (node['children'] as ExpressionNode[]) : [];
}

/** De Morgan's law. */
function negated(node: ExpressionNode): ExpressionNode {
  const children = childList(node).map((child) => ({
    class: 'OPERATOR',
    type: 'OPERATOR_NOT',
    alias: '',
    query_location: 0,
    children: [child],
  }));
  return {
    ...node,
    type: node.type === 'CONJUNCTION_AND' ? 'CONJUNCTION_OR' : 'CONJUNCTION_AND',
    children,
  };
}

function caseOf(
  { alias = '', query_location = 0 }: ExpressionNode,
  branches: readonly (readonly [ExpressionNode, boolean])[],
): ExpressionNode {
  const constant = (type: string, value: boolean | null): ExpressionNode => ({
    class: 'CONSTANT',
    type: 'VALUE_CONSTANT',
    alias: '',
    query_location,
    value: {
      type: { id: type, type_info: null },
      is_null: value === null,
      ...(value === null ? {} : { value }),
    },
  });
  return {
    class: 'CASE',
    type: 'CASE_EXPR',
    alias,
    query_location,
    case_checks: branches.map(([condition, value]) => ({
      when_expr: condition,
      then_expr: constant('BOOLEAN', value),
    })),
    else_expr: constant('NULL', null),
  };
}
