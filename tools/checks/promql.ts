import type { SyntaxNode } from '@lezer/common';
import { parser } from '@prometheus-io/lezer-promql';

/** What a selector may name: a metric's labels, each with its values where they are a fixed list. */
export interface KnownMetric {
  readonly kind: 'counter' | 'gauge' | 'histogram';
  readonly labels: ReadonlyMap<string, readonly string[] | null>;
}

export interface CheckedQuery {
  readonly faults: readonly string[];
  /** The labels that a sample of the result may have. */
  readonly labels: ReadonlySet<string>;
}

/** The labels of a value, and whether it is a single number instead of samples with labels. */
interface Value {
  readonly labels: ReadonlySet<string>;
  readonly scalar: boolean;
}

const scalar: Value = { labels: new Set(), scalar: true };
const ofCounters = new Set(['rate', 'increase', 'irate', 'resets']);
const ofGauges = new Set(['delta', 'idelta', 'deriv', 'predict_linear']);
const choosing = new Set(['topk', 'bottomk', 'limitk', 'limit_ratio']);

/**
 * Whether each metric, label and label value in a PromQL query exists, counters and gauges are used
 * as such, and the two sides of an operator can have samples that match. Grafana's variables in
 * label values are taken for any value.
 */
export function checkQuery(query: string, metrics: ReadonlyMap<string, KnownMetric>): CheckedQuery {
  const check = new QueryCheck(query, metrics);
  const tree = parser.parse(query);
  tree.iterate({
    enter: ({ type, from }) => {
      if (type.isError) {
        check.faults.push(`syntax error at ${from}`);
      }
    },
  });
  const { labels } = check.faults.length === 0 ? check.valueOf(firstChild(tree.topNode)) : scalar;
  return { faults: check.faults, labels };
}

class QueryCheck {
  readonly faults: string[] = [];
  readonly #query: string;
  readonly #metrics: ReadonlyMap<string, KnownMetric>;

  constructor(query: string, metrics: ReadonlyMap<string, KnownMetric>) {
    this.#query = query;
    this.#metrics = metrics;
  }

  valueOf(node: SyntaxNode): Value {
    switch (node.name) {
      case 'VectorSelector':
        return this.#selector(node);
      case 'AggregateExpr':
        return this.#aggregate(node);
      case 'FunctionCall':
        return this.#call(node);
      case 'BinaryExpr':
        return this.#operator(node);
      case 'NumberDurationLiteral':
      case 'StringLiteral':
        return scalar;
      case 'ParenExpr':
      case 'UnaryExpr':
      case 'MatrixSelector':
      case 'SubqueryExpr':
      case 'OffsetExpr':
        return this.valueOf(operands(node)[0] ?? node.lastChild ?? node);
      default:
        this.faults.push(`${node.name} is not understood by this check: ${this.#text(node)}`);
        return scalar;
    }
  }

  #selector(node: SyntaxNode): Value {
    const nameNode = node.getChild('Identifier');
    const name = nameNode ? this.#text(nameNode) : '';
    const metric = this.#metrics.get(name);
    if (metric === undefined) {
      this.faults.push(`there is no metric ${name || this.#text(node)}`);
      return { labels: new Set(), scalar: false };
    }
    for (const matcher of node.getChild('LabelMatchers')?.getChildren('UnquotedLabelMatcher') ??
      []) {
      this.#matcher(matcher, name, metric);
    }
    return { labels: new Set(metric.labels.keys()), scalar: false };
  }

  #matcher(node: SyntaxNode, name: string, { labels }: KnownMetric): void {
    const [label = '', operator = '', quoted = ''] = children(node).map((part) => this.#text(part));
    const values = labels.get(label);
    if (values === undefined) {
      this.faults.push(`${name} has no label ${label}`);
      return;
    }
    const text = quoted.slice(1, -1);
    if (values === null || text === '' || text.includes('$')) {
      return;
    }
    for (const value of operator.endsWith('~') ? text.split('|') : [text]) {
      if (!values.includes(value)) {
        this.faults.push(`${name} has no ${label} ${value}: it has ${values.join(', ')}`);
      }
    }
  }

  #aggregate(node: SyntaxNode): Value {
    const operator = this.#text(firstChild(node));
    const inner = this.#union(operands(node.getChild('FunctionCallBody')));
    const modifier = node.getChild('AggregateModifier');
    const named = this.#labelNames(modifier?.getChild('GroupingLabels'));
    for (const label of named) {
      this.#requireLabel(label, inner, node);
    }
    if (modifier?.getChild('Without')) {
      return { labels: without(inner, named), scalar: false };
    }
    const labels = choosing.has(operator) ? inner : new Set(named);
    return { labels, scalar: false };
  }

  #call(node: SyntaxNode): Value {
    const name = this.#text(firstChild(node));
    const args = operands(node.getChild('FunctionCallBody'));
    const labels = this.#union(args);
    this.#checkKind(name, node);
    switch (name) {
      case 'time':
      case 'scalar':
        return scalar;
      case 'vector':
        return { labels: new Set(), scalar: false };
      case 'absent':
      case 'absent_over_time':
        return { labels: this.#equalLabels(node), scalar: false };
      case 'histogram_quantile':
        this.#requireLabel('le', labels, node);
        return { labels: without(labels, ['le']), scalar: false };
      case 'label_replace':
      case 'label_join': {
        const made = args[1] ? this.#text(args[1]).slice(1, -1) : '';
        return { labels: new Set([...labels, made]), scalar: false };
      }
      default:
        return { labels, scalar: false };
    }
  }

  #checkKind(name: string, node: SyntaxNode): void {
    if (!ofCounters.has(name) && !ofGauges.has(name)) {
      return;
    }
    for (const identifier of descendants(node, 'Identifier')) {
      const metric = this.#text(identifier);
      const kind = this.#metrics.get(metric)?.kind;
      if (kind !== undefined && (kind === 'gauge') !== ofGauges.has(name)) {
        this.faults.push(`${name} of a ${kind}: ${metric}`);
      }
    }
  }

  /** `absent` gives its sample the labels that its selector fixes. */
  #equalLabels(node: SyntaxNode): ReadonlySet<string> {
    const fixed = descendants(node, 'UnquotedLabelMatcher').filter(
      (matcher) =>
        this.#text(matcher)
          .replaceAll(/\s/g, '')
          .match(/^\w+="/) !== null,
    );
    return new Set(fixed.map((matcher) => this.#text(firstChild(matcher))));
  }

  #operator(node: SyntaxNode): Value {
    const [leftNode = node, rightNode = node] = operands(node);
    const left = this.valueOf(leftNode);
    const right = this.valueOf(rightNode);
    if (left.scalar || right.scalar) {
      return left.scalar ? right : left;
    }
    const matching = node.getChild('MatchingModifierClause');
    const [first, second] = matching?.getChildren('GroupingLabels') ?? [];
    const named = this.#labelNames(
      matching?.getChild('On') || matching?.getChild('Ignoring') ? first : null,
    );
    const added = this.#labelNames(second);
    const shared = new Set([...left.labels].filter((label) => right.labels.has(label)));
    if (node.getChild('Or')) {
      return { labels: shared, scalar: false };
    }
    const on = matching?.getChild('On') ? named : null;
    const ignored = on ? [] : named;
    for (const label of on ?? []) {
      this.#requireLabel(label, shared, node);
    }
    const apart = without(new Set([...left.labels, ...right.labels]), [...shared, ...ignored]);
    if (on === null && apart.size > 0) {
      this.faults.push(`the sides differ in ${[...apart].join(', ')}: ${this.#text(node)}`);
    }
    if (node.getChild('And') || node.getChild('Unless')) {
      return left;
    }
    const many = matching?.getChild('GroupRight') ? right : left;
    if (matching?.getChild('GroupLeft') || matching?.getChild('GroupRight')) {
      return { labels: new Set([...many.labels, ...added]), scalar: false };
    }
    return {
      labels: on ? new Set(on) : without(left.labels, ignored),
      scalar: false,
    };
  }

  #union(nodes: readonly SyntaxNode[]): ReadonlySet<string> {
    return new Set(nodes.flatMap((node) => [...this.valueOf(node).labels]));
  }

  #requireLabel(label: string, labels: ReadonlySet<string>, node: SyntaxNode): void {
    if (!labels.has(label)) {
      this.faults.push(`nothing to group by ${label} in ${this.#text(node)}`);
    }
  }

  #labelNames(node: SyntaxNode | null | undefined): string[] {
    return (node?.getChildren('LabelName') ?? []).map((label) => this.#text(label));
  }

  #text({ from, to }: SyntaxNode): string {
    return this.#query.slice(from, to);
  }
}

function without(labels: ReadonlySet<string>, dropped: Iterable<string>): Set<string> {
  const left = new Set(labels);
  for (const label of dropped) {
    left.delete(label);
  }
  return left;
}

/** The nodes that are values, without modifiers, operators and durations. */
function operands(node: SyntaxNode | null): SyntaxNode[] {
  return node === null
    ? []
    : children(node).filter(({ name }) =>
        /^(VectorSelector|(Aggregate|Binary|Paren|Unary|Subquery|Offset)Expr|FunctionCall|MatrixSelector|NumberDurationLiteral|StringLiteral|StepInvariantExpr)$/.test(
          name,
        ),
      );
}

function children(node: SyntaxNode): SyntaxNode[] {
  const found: SyntaxNode[] = [];
  for (let child = node.firstChild; child; child = child.nextSibling) {
    found.push(child);
  }
  return found;
}

function descendants(node: SyntaxNode, name: string): SyntaxNode[] {
  return children(node).flatMap((child) => [
    ...(child.name === name ? [child] : []),
    ...descendants(child, name),
  ]);
}

function firstChild(node: SyntaxNode): SyntaxNode {
  return node.firstChild ?? node;
}
