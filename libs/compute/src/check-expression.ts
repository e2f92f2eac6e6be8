import { didYouMean, type Expression, type Problem } from '@anabranch/definition';
import { type DuckDBConnection, type DuckDBType, DuckDBTypeId } from '@duckdb/node-api';
import {
  allowedFunctions,
  environmentNames,
  longestPadding,
  paddingFunctions,
} from './allowed-functions.ts';
import { TooManyConditions, withConditions } from './conditions.ts';
import { costOf, type Sizes } from './expression-cost.ts';
import {
  childrenOf,
  columnNames,
  constantValue,
  depthOf,
  type ExpressionNode,
  functionName,
  onlyExpression,
  type ParseResult,
} from './expression-tree.ts';
import { type Growth, growthOf, isUnbounded, largest, mostGrowth } from './growth.ts';

/** What an expression may name, and what it is bound to. */
export interface Scope {
  /** What the expression is for, as a message says it: "`where` of table orders". */
  readonly what: string;
  readonly names: readonly string[];
  /** How large values of a name get, by the name in lower case; those not there: texts of any length. */
  readonly sizes?: ReadonlyMap<string, Sizes>;
  /** SQL of a relation of one row with these names, and with the headers that the expression uses. */
  readonly relation: (headerNames: readonly string[]) => string;
  /** Names of another scope, with what to say about them: columns in a filter, for example. */
  readonly misplaced?: ReadonlyMap<string, string>;
  /** Whether `headers['…']` may be used. */
  readonly headers: boolean;
  /** Of names that aren't fields, in lower case. */
  readonly growth?: ReadonlyMap<string, Growth>;
  /** BOOLEAN, or whatever the expression gives. */
  readonly expects: 'boolean' | 'value';
}

export interface CheckedExpression {
  /** To be used for the user's text: it says the same, and does so whatever records are beside one. */
  readonly sql: string;
  readonly type: DuckDBType;
  /** How large its value gets, for a short and a long text. */
  readonly sizes: Sizes;
  /** Names of the scope that it uses, as the scope writes them. */
  readonly references: ReadonlySet<string>;
  readonly headerNames: readonly string[];
  /** Whether it may fail on a record. */
  readonly canFail: boolean;
  readonly growth: Growth;
}

/** Milliseconds that DuckDB may take to plan an expression and compute it on a row of NULLs. */
const patience = 3000;
const inColumns = 'compute parts of it in columns of their own';
const prefix = 'SELECT ';
const statementStart =
  /^\s*(select|with|insert|update|delete|drop|create|alter|copy|attach|install|load|set|pragma|truncate|call)\b/i;
/** Longer expressions aren't written by hand. */
const longestExpression = 20_000;
/** So deep, walks over the tree by recursion have room to spare on the stack; 900 were too many. */
const deepestExpression = 250;

/**
 * Checks the user's SQL with DuckDB's own parser and binder.
 * @returns the problems if there are any, each with its place in the definition
 */
export async function checkExpression(
  connection: DuckDBConnection,
  expression: Expression,
  scope: Scope,
): Promise<CheckedExpression | { readonly problems: readonly Problem[] }> {
  const { sql } = expression;
  const problem = (message: string, at: number, text: string, hint?: string): Problem => ({
    ...positionOf(expression, at),
    text,
    message: `${scope.what}: ${message}`,
    ...(hint === undefined ? {} : { hint }),
  });
  const fail = (message: string, at = 0, text = sql, hint?: string): { problems: Problem[] } => ({
    problems: [problem(message, at, text, hint)],
  });

  if (sql.trim() === '') {
    return fail('the expression is empty');
  }
  if (sql.length > longestExpression || sql.includes('\0')) {
    return fail(
      sql.includes('\0')
        ? 'the expression has a NUL character'
        : `the expression has more than ${String(longestExpression)} characters`,
      0,
      '',
    );
  }
  const parsed = await parse(connection, sql);
  if (parsed.error) {
    const at = Number(parsed.position ?? prefix.length);
    const near = /at or near "(.*?)"/s.exec(parsed.error_message)?.[1] ?? '';
    const message =
      parsed.error_type !== 'parser' || statementStart.test(sql)
        ? 'expected an expression, not a statement'
        : /^(memory exhausted|Max expression depth)/.test(parsed.error_message)
          ? 'the expression is nested too deeply'
          : parsed.error_message;
    return fail(message, characterOf(sql, at), near, await keywordHint(connection, sql, scope));
  }
  const [statement, ...more] = parsed.statements;
  if (more.length > 0 || statement === undefined) {
    const at = sql.indexOf(';');
    return fail(
      'expected one expression, not several statements',
      Math.max(at, 0),
      sql.slice(Math.max(at, 0)),
    );
  }
  const tree = onlyExpression(statement);
  if (tree === null) {
    return (statement.node.select_list?.length ?? 0) > 1
      ? fail('expected one expression, not several separated by commas')
      : fail('expected an expression, not a query');
  }
  if ((tree.alias ?? '') !== '') {
    return fail(
      `the expression can't be followed by a name (${tree.alias})`,
      0,
      sql,
      'columns get their names from the keys',
    );
  }

  if (depthOf(tree) > deepestExpression) {
    return fail(
      `the expression is nested too deeply: more than ${String(deepestExpression)} levels`,
      0,
      sql,
      inColumns,
    );
  }
  if (constantValue(tree) === null) {
    return fail('the value is always NULL', 0, sql, 'give it a type, as in CAST(NULL AS integer)');
  }

  const walk = new TreeWalk(sql, scope, problem);
  walk.visit(tree, new Set());
  if (walk.problems.length > 0) {
    return { problems: walk.problems };
  }
  const growth = growthOf(tree, scope.growth ?? new Map());
  if (isUnbounded(growth)) {
    const at = walk.at(growth.node);
    return fail(growth.message, at, wordAt(sql, at), growth.hint);
  }
  if (largest(growth) > mostGrowth) {
    return fail(
      `the value could be more than ${String(mostGrowth)} times as long as its record`,
      0,
      sql,
      'texts that are replaced by longer ones, and joined with themselves, multiply',
    );
  }
  const sizes = costOf(tree, (name) => scope.sizes?.get(name));
  if ('message' in sizes) {
    const at = walk.at(sizes.node);
    return fail(sizes.message, at, wordAt(sql, at), sizes.hint);
  }
  let settled: string;
  try {
    settled = await settle(connection, sql, tree, scope.expects === 'boolean');
  } catch (error) {
    if (error instanceof TooManyConditions) {
      return fail('ANDs and ORs are nested too deeply within other functions', 0, sql, inColumns);
    }
    throw error;
  }
  const bound = await bind(connection, settled, scope.relation([...walk.headerNames]));
  if ('message' in bound) {
    return fail(bound.message, bound.at ?? 0, bound.at === null ? sql : wordAt(sql, bound.at));
  }
  const { type } = bound;
  if (scope.expects === 'boolean' && type.typeId !== DuckDBTypeId.BOOLEAN) {
    return fail(
      `expected true or false, got ${type.toString()}`,
      0,
      sql,
      'compare with something, as in x > 0',
    );
  }
  return {
    sql: `(${settled}\n)`,
    type,
    sizes,
    references: walk.references,
    headerNames: [...walk.headerNames],
    // Even a comparison can: of a text with a number, by the cast that it implies.
    canFail: tree.class !== 'COLUMN_REF' && tree.class !== 'CONSTANT',
    growth,
  };
}

async function parse(
  connection: DuckDBConnection,
  sql: string,
  reviver?: (key: string, value: unknown) => unknown,
): Promise<ParseResult> {
  const reader = await connection.runAndReadAll('SELECT json_serialize_sql($1::VARCHAR)', [
    prefix + sql,
  ]);
  try {
    return JSON.parse(String(reader.getRows()[0]?.[0]), reviver) as ParseResult;
  } catch {
    // DuckDB writes constants that JSON doesn't have: Infinity and NaN.
    return { error: true, error_type: 'parser', error_message: 'a number is out of range' };
  }
}

type Report = (message: string, at: number, text: string, hint?: string) => Problem;

/** The text with its ANDs and ORs as conditions; mostly it is the user's own. */
async function settle(
  connection: DuckDBConnection,
  sql: string,
  tree: ExpressionNode,
  isCondition: boolean,
): Promise<string> {
  if (withConditions(tree, isCondition) === null) {
    return sql;
  }
  // Again, with the numbers as they are written: JavaScript would round some.
  const parsed = await parse(
    connection,
    sql,
    (key, value: unknown, context?: { source?: string }) => {
      if (typeof value !== 'number') {
        return value;
      }
      // The place that DuckDB doesn't know is 2^64 - 1, which it doesn't read again when rounded.
      return key === 'query_location'
        ? 0
        : (JSON as unknown as { rawJSON: (text: string) => unknown }).rawJSON(
            context?.source ?? '',
          );
    },
  );
  const [statement] = parsed.error ? [] : parsed.statements;
  const exact = statement && onlyExpression(statement);
  const rewritten = exact ? withConditions(exact, isCondition) : null;
  if (!statement || !rewritten) {
    return sql;
  }
  const json = JSON.stringify({
    error: false,
    statements: [{ ...statement, node: { ...statement.node, select_list: [rewritten] } }],
  });
  const reader = await connection.runAndReadAll('SELECT json_deserialize_sql($1::JSON)', [json]);
  return String(reader.getRows()[0]?.[0]).replace(/^SELECT /, '');
}

/** For a syntax error that comes from a field with the name of a keyword of SQL. */
async function keywordHint(
  connection: DuckDBConnection,
  sql: string,
  { names }: Scope,
): Promise<string | undefined> {
  const words = new Set(sql.toLowerCase().match(/\w+/g));
  for (const name of names) {
    if (words.has(name.toLowerCase()) && (await parse(connection, name)).error) {
      return `${name} is a keyword of SQL: write the field in double quotes, "${name}"`;
    }
  }
  return undefined;
}

/** Looks for what the binder would allow but a definition can't have. */
class TreeWalk {
  readonly problems: Problem[] = [];
  readonly references = new Set<string>();
  readonly headerNames = new Set<string>();
  readonly #sql: string;
  readonly #scope: Scope;
  readonly #known: ReadonlyMap<string, string>;
  readonly #problem: Report;

  constructor(sql: string, scope: Scope, problem: Report) {
    this.#sql = sql;
    this.#scope = scope;
    // DuckDB takes names for the same whatever their case.
    this.#known = new Map(scope.names.map((name) => [name.toLowerCase(), name]));
    this.#problem = problem;
  }

  report(message: string, at: number, text: string, hint?: string): Problem {
    const problem = this.#problem(message, at, text, hint);
    this.problems.push(problem);
    return problem;
  }

  /** @param parameters names that a lambda around the node gives */
  visit(node: ExpressionNode, parameters: ReadonlySet<string>): void {
    const at = this.at(node);
    switch (node.class) {
      case 'COLUMN_REF':
        this.#column(node, at, parameters);
        return;
      case 'CONSTANT':
      case 'CASE':
      case 'COMPARISON':
      case 'CONJUNCTION':
      case 'BETWEEN':
      case 'CAST':
        break;
      case 'OPERATOR':
        if (this.#header(node, at)) {
          return;
        }
        break;
      case 'FUNCTION':
        if (!this.#function(node, at)) {
          return;
        }
        break;
      case 'LAMBDA':
        this.#lambda(node, parameters);
        return;
      case 'WINDOW':
        this.report("window functions can't be used here", at, functionName(node));
        return;
      case 'SUBQUERY':
        this.report("subqueries can't be used here", at, this.#sql.slice(at));
        return;
      case 'STAR':
        this.report("* can't be used here", at, '*', 'name the fields');
        return;
      case 'PARAMETER':
        this.report(
          "parameters ($1, ?) can't be used here",
          Math.max(this.#sql.search(/[$?]/), 0),
          '',
        );
        return;
      case 'POSITIONAL_REFERENCE':
        this.report("positions (#1) can't be used here", at, '#', 'name the field');
        return;
      case 'COLLATE':
        this.report('text is compared byte by byte here: COLLATE is not possible', at, this.#sql);
        return;
      default:
        this.report(
          `${node.class.toLowerCase().replaceAll('_', ' ')} can't be used here`,
          at,
          this.#sql.slice(at),
        );
        return;
    }
    for (const child of childrenOf(node)) {
      this.visit(child, parameters);
    }
  }

  #column(node: ExpressionNode, at: number, parameters: ReadonlySet<string>): void {
    const names = columnNames(node);
    const [name = ''] = names;
    const plain = name.toLowerCase();
    if (names.length > 1) {
      this.report(
        `"${names.join('.')}" is not a column`,
        at,
        names.join('.'),
        plain === 'headers' && this.#scope.headers
          ? `write headers['${names.slice(1).join('.')}']`
          : 'write the name alone, without a table',
      );
    } else if (parameters.has(plain)) {
      return;
    } else if (this.#known.has(plain)) {
      this.references.add(this.#known.get(plain) ?? name);
    } else if (plain === 'headers' && this.#scope.headers) {
      this.report(
        "headers can only be used with a header's name",
        at,
        name,
        "as in headers['bulk']",
      );
    } else {
      this.#unknown(name, at);
    }
  }

  #unknown(name: string, at: number): void {
    const plain = name.toLowerCase();
    const misplaced = this.#scope.misplaced?.get(plain);
    if (misplaced !== undefined) {
      this.report(misplaced, at, name);
    } else if (environmentNames.has(plain)) {
      this.report(environmentMessage(name), at, name);
    } else {
      const quoted = this.#sql[at] === '"';
      this.report(
        `unknown column "${name}"`,
        at,
        name,
        didYouMean(name, this.#scope.names) ??
          (quoted
            ? `text is written in single quotes: '${name}'`
            : `known are ${this.#scope.names.slice(0, 12).join(', ')}${this.#scope.names.length > 12 ? ', …' : ''}`),
      );
    }
  }

  /** @returns whether it is `headers['name']` */
  #header(node: ExpressionNode, at: number): boolean {
    const [list, index, ...rest] = childrenOf(node);
    if (
      !this.#scope.headers ||
      list === undefined ||
      columnNames(list)[0]?.toLowerCase() !== 'headers' ||
      columnNames(list).length !== 1 ||
      this.#known.has('headers')
    ) {
      return false;
    }
    const name = constantValue(index);
    if (
      node.type !== 'ARRAY_EXTRACT' ||
      rest.length > 0 ||
      typeof name !== 'string' ||
      name === ''
    ) {
      this.report(
        "headers can only be used with a header's name",
        list ? this.at(list) : at,
        'headers',
        "as in headers['bulk']",
      );
    } else {
      this.headerNames.add(name);
    }
    return true;
  }

  #function(node: ExpressionNode, at: number): boolean {
    const name = functionName(node);
    const schema = typeof node['schema'] === 'string' ? node['schema'] : '';
    if (schema !== '' && schema !== 'main') {
      this.report(`"${schema}.${name}" is not a function`, at, name, `write ${name}(${schema})`);
      return false;
    }
    const isAggregate =
      aggregateNames.has(name) || node['distinct'] === true || node['filter'] !== null;
    if (!allowedFunctions.has(name)) {
      if (environmentNames.has(name)) {
        this.report(environmentMessage(name), at, name);
      } else if (isAggregate) {
        this.report(
          `the aggregate ${name} can't be used here`,
          at,
          name,
          'aggregates belong under `aggregates` of a window table',
        );
      } else {
        this.report(
          `unknown function "${name}"`,
          at,
          name,
          didYouMean(name, allowedFunctions) ??
            'possible are functions whose result depends on nothing but their arguments',
        );
      }
      return false;
    }
    if (isAggregate) {
      this.report(`DISTINCT and FILTER can't be used with ${name}`, at, name);
      return false;
    }
    if (paddingFunctions.has(name)) {
      const length = constantValue(childrenOf(node)[1]);
      if (typeof length !== 'number' || length > longestPadding) {
        this.report(
          `the length in ${name} must be a number up to ${String(longestPadding)}`,
          at,
          name,
        );
        return false;
      }
    }
    return true;
  }

  /** Also what `json -> path` is parsed as; the binder tells the two apart. */
  #lambda(node: ExpressionNode, parameters: ReadonlySet<string>): void {
    const { lhs, expr } = node as { lhs?: ExpressionNode; expr?: ExpressionNode };
    const inner = new Set(parameters);
    const lefts = lhs === undefined ? [] : lhs.class === 'COLUMN_REF' ? [lhs] : childrenOf(lhs);
    if (lhs !== undefined && lefts.every((left) => columnNames(left).length === 1)) {
      for (const left of lefts) {
        const [name = ''] = columnNames(left);
        const known = this.#known.get(name.toLowerCase());
        if (known === undefined) {
          inner.add(name.toLowerCase());
        } else {
          this.references.add(known);
        }
      }
    } else if (lhs !== undefined) {
      this.visit(lhs, parameters);
    }
    if (expr !== undefined) {
      this.visit(expr, inner);
    }
  }

  /** Where the node begins in the text, in characters. */
  at(node: ExpressionNode): number {
    const location = node.query_location ?? Number.POSITIVE_INFINITY;
    return location > prefix.length + Buffer.byteLength(this.#sql)
      ? 0
      : characterOf(this.#sql, location);
  }
}

/** As far as users expect one: messages only. */
const aggregateNames: ReadonlySet<string> = new Set(
  `count count_star count_if countif sum min max avg mean median mode first last any_value arbitrary arg_min arg_max argmin argmax min_by max_by
  stddev stddev_pop stddev_samp variance var_pop var_samp string_agg group_concat listagg list array_agg bool_and bool_or product
  quantile quantile_cont quantile_disc approx_quantile approx_count_distinct histogram fsum kahan_sum sumkahan favg
  weighted_avg wavg geomean geometric_mean json_group_array json_group_object bit_and bit_or bit_xor corr covar_pop covar_samp
  entropy kurtosis skewness mad regr_slope row_number rank dense_rank lag lead first_value last_value`
    .trim()
    .split(/\s+/),
);

function environmentMessage(name: string): string {
  return `${name} can't be used: a record must give the same result whenever and wherever it is processed`;
}

/**
 * Lets DuckDB bind the expression, and compute it on NULLs: what fails there, as `CAST('x' AS date)`
 * does, would fail on every record.
 */
async function bind(
  connection: DuckDBConnection,
  sql: string,
  relation: string,
): Promise<{ type: DuckDBType } | { message: string; at: number | null }> {
  const before = 'SELECT (';
  const timer = setTimeout(() => {
    connection.interrupt();
  }, patience);
  try {
    // In the WHERE clause the binder refuses aggregates and window functions, also those that hide
    // in macros.
    const statement = await connection.prepare(
      `${before}${sql}\n) FROM ${relation} WHERE ((${sql}\n)) IS NULL OR true`,
    );
    try {
      await statement.run();
      return { type: statement.columnType(0) };
    } finally {
      statement.destroySync();
    }
  } catch (error) {
    const { exception_type: kind, exception_message: text, position } = errorOf(error);
    if (kind === 'Interrupt' || text.startsWith('Interrupted')) {
      return { message: 'DuckDB takes too long for it', at: null };
    }
    const [message = ''] = text.split('\n');
    const at = position === undefined ? null : Number(position) - before.length;
    return {
      message:
        kind === 'Binder' || kind === 'Parser' ? message : `it fails on every record: ${message}`,
      at:
        at === null || at < 0 || at >= Buffer.byteLength(sql)
          ? null
          : characterOf(sql, at + prefix.length),
    };
  } finally {
    clearTimeout(timer);
  }
}

/** DuckDB's error as JSON: `errors_as_json` is set for the checks. */
function errorOf(error: unknown): {
  exception_type: string;
  exception_message: string;
  position?: string;
} {
  const message = error instanceof Error ? error.message : String(error);
  const json = message.slice(Math.max(message.indexOf('{'), 0));
  try {
    return JSON.parse(json) as { exception_type: string; exception_message: string };
  } catch {
    return {
      exception_type: /interrupt/i.test(message) ? 'Interrupt' : '',
      exception_message: message,
    };
  }
}

/** Characters in front of a place that DuckDB gives in bytes of the statement. */
function characterOf(sql: string, bytes: number): number {
  return Buffer.from(sql)
    .subarray(0, Math.max(bytes - prefix.length, 0))
    .toString().length;
}

function wordAt(sql: string, at: number): string {
  return /^("[^"]*"|\w+|\S)/.exec(sql.slice(at))?.[0] ?? '';
}

/** Where a character of the expression stands in the file, as far as its first line goes. */
function positionOf({ sql, at }: Expression, character: number): Omit<Problem, 'text' | 'message'> {
  const lines = sql.slice(0, character).split('\n');
  const column = (lines.at(-1) ?? '').length;
  return lines.length === 1
    ? { file: at.file, line: at.line, column: at.column + column }
    : { file: at.file, line: at.line + lines.length - 1, column: column + 1 };
}
