import type {
  Aggregate,
  AggregateFunction,
  Expression,
  Field,
  Problem,
  Source,
  Table,
  WindowTable,
} from '@anabranch/definition';
import type { DuckDBConnection } from '@duckdb/node-api';
import type { AggregateState, PreparedColumn } from './aggregate-states.ts';
import { aggregateStates, sharedStates } from './aggregates.ts';
import { checkExpression, type CheckedExpression, type Scope } from './check-expression.ts';
import { asCondition } from './conditions.ts';
import { fieldSizes, smallSizes, type Sizes } from './expression-cost.ts';
import { firstMicrosecond, typedNulls } from './field-types.ts';
import type { Growth } from './growth.ts';
import type { ResultColumn, Stage, StateColumn, TablePlan } from './plan.ts';
import { quoteName, quoteText } from './quoting.ts';
import {
  guardedKey,
  guardedValue,
  isPlain,
  isText,
  mostKeys,
  storableType,
  type StorableType,
  withoutNegativeZero,
} from './storable-types.ts';

/**
 * Compiles a table. Its SQL is a stack of relations over the records: those that pass `drop_nulls`
 * and `where`; the columns, in levels, as a column may use earlier ones; the arguments of the
 * aggregates; and guards for what Postgres can't hold.
 */
export async function planTable(
  connection: DuckDBConnection,
  source: Source,
  table: Table,
): Promise<{ plan: TablePlan; fields: ReadonlySet<string> } | { problems: readonly Problem[] }> {
  return new TablePlanner(connection, source, table).plan();
}

type Relation = (records: string) => string;

/** A column of the user's whose values reach Postgres. */
interface Value {
  readonly name: string;
  readonly type: StorableType;
  readonly comment: string;
}

class TablePlanner {
  readonly #connection: DuckDBConnection;
  readonly #source: Source;
  readonly #table: Table;
  readonly #problems: Problem[] = [];
  readonly #usedFields = new Set<string>();
  readonly #stages: Stage[] = [];
  /** Columns whose values may be ones that no field has, and Postgres can't hold. */
  readonly #unsafe = new Set<string>();
  readonly #growth = new Map<string, Growth>();
  /** How large values get, by the names in lower case. */
  readonly #sizes: Map<string, Sizes>;
  #relation: Relation;
  #present: readonly { readonly name: string; readonly isField: boolean }[];
  /** What the expressions so far made of a row of NULLs. */
  #nulls: string;
  /** Names in the order of the file; columns replace fields of the same name. */
  #names: string[];

  constructor(connection: DuckDBConnection, source: Source, table: Table) {
    this.#connection = connection;
    this.#source = source;
    this.#table = table;
    this.#relation = (records) => records;
    this.#nulls = typedNulls(source.fields);
    this.#sizes = fieldSizes(source.fields);
    this.#names = source.fields.map(({ name }) => name);
    this.#present = this.#names.map((name) => ({ name, isField: true }));
  }

  async plan(): Promise<
    { plan: TablePlan; fields: ReadonlySet<string> } | { problems: readonly Problem[] }
  > {
    const passes = await this.#filter();
    const types = await this.#columns();
    const table = this.#table;
    const made = table.kind === 'window' ? await this.#window(types) : this.#rows(types);
    if (this.#problems.length > 0 || made === null) {
      return { problems: this.#problems };
    }
    const { columns, results, rows } = made;
    const plan: TablePlan = {
      table,
      columns,
      results,
      sql: {
        count: (records) =>
          `SELECT "#partition" AS partition, count(*) AS passed FROM ${records} WHERE ${passes} GROUP BY ALL`,
        rows,
        line: lineOf(columns),
        stages: this.#stages,
      },
      canFail: this.#stages.length > 0,
    };
    return { plan, fields: this.#usedFields };
  }

  /** @returns the condition */
  async #filter(): Promise<string> {
    const { dropNulls, where, columns } = this.#table;
    const fields = new Set(this.#names);
    const notNull = dropNulls.map((name) => `${quoteName(name)} IS NOT NULL`).join(' AND ');
    for (const name of dropNulls) {
      this.#usedFields.add(name);
    }
    let passes = notNull === '' ? 'true' : notNull;
    if (where !== null) {
      const misplaced = new Map(
        columns
          .filter(({ name }) => !fields.has(name))
          .map(({ name, expression }) => [
            name.toLowerCase(),
            `it comes before the columns: instead of ${name} write (${expression.sql.trim()})`,
          ]),
      );
      const checked = await this.#check(where, 'where', { misplaced, expects: 'boolean' });
      if (checked !== null) {
        // In a CASE, since the terms of an AND are computed in any order: a record that drop_nulls
        // filters must not fail in `where` on some days.
        const condition = asCondition(checked.sql);
        passes = `CASE WHEN ${passes} THEN ${condition} ELSE false END`;
        if (checked.canFail) {
          this.#stages.push({
            input: (records) =>
              notNull === '' ? records : `(SELECT * FROM ${records} WHERE ${notNull})`,
            expressions: [{ name: 'where', sql: condition }],
          });
        }
      }
    }
    this.#relation = (records) =>
      passes === 'true' ? records : `(SELECT * FROM ${records} WHERE ${passes})`;
    return passes;
  }

  /** @returns the checked columns; those with a problem are left out */
  async #columns(): Promise<Map<string, CheckedExpression>> {
    const types = new Map<string, CheckedExpression>();
    let level: LevelColumn[] = [];
    for (const { name, expression } of this.#table.columns) {
      const checked = await this.#check(expression, `column ${name}`, { expects: 'value' });
      if (checked === null) {
        continue;
      }
      if (level.some((earlier) => checked.references.has(earlier.name))) {
        this.#addLevel(level);
        level = [];
      }
      types.set(name, checked);
      this.#sizes.set(name.toLowerCase(), isPlain(checked.type) ? smallSizes : checked.sizes);
      this.#markUnsafe(name, checked);
      this.#growth.set(name.toLowerCase(), checked.growth);
      const column = { name, sql: checked.sql, canFail: checked.canFail };
      level.push(column);
      const kept = this.#names.filter((other) => !sameName(other, name));
      this.#nulls = extended(this.#nulls, kept, [column]);
      this.#names = [...kept, name];
    }
    this.#addLevel(level);
    return types;
  }

  /** Adds columns to the relation; they don't use each other. */
  #addLevel(columns: readonly LevelColumn[]): void {
    if (columns.length === 0) {
      return;
    }
    const input = this.#relation;
    const failing = columns.filter(({ canFail }) => canFail);
    if (failing.length > 0) {
      this.#stages.push({
        input,
        expressions: failing.map(({ name, sql, label }) => ({ name: label ?? name, sql })),
      });
    }
    this.#extend(columns);
  }

  /** Columns of the same name are replaced. */
  #extend(columns: readonly { name: string; sql: string }[]): void {
    if (columns.length === 0) {
      return;
    }
    const input = this.#relation;
    const kept = this.#present.filter(
      ({ name }) => !columns.some((column) => sameName(column.name, name)),
    );
    this.#present = [...kept, ...columns.map(({ name }) => ({ name, isField: false }))];
    this.#relation = (records) => {
      // Of the fields, the relation of records has only those that are used in the end.
      const carried = kept.filter(({ name, isField }) => !isField || this.#usedFields.has(name));
      const names = ['#partition', '#offset', '#time', ...carried.map(({ name }) => name)];
      return extended(input(records), names, columns);
    };
  }

  #rows(types: ReadonlyMap<string, CheckedExpression>): Made | null {
    const table = this.#table;
    const values = table.columns.flatMap(({ name, expression }): Value[] => {
      const checked = types.get(name);
      const value =
        checked && this.#storable(checked, expression, `column ${name}`, name, expression.sql);
      return value ? [value] : [];
    });
    if (this.#problems.length > 0) {
      return null;
    }
    const keys = new Set(table.kind === 'upsert' ? table.key : []);
    this.#limitKeys([...keys], 'key');
    const stored = this.#guard(
      values.map(({ name, type }) => ({ name, type, isKey: keys.has(name) })),
    );
    const columns: StateColumn[] = [
      { name: '_partition', postgresType: 'integer', role: 'partition', merge: null },
      { name: '_offset', postgresType: 'bigint', role: 'offset', merge: null },
      { name: '_event_time', postgresType: 'timestamptz', role: 'event_time', merge: null },
      ...values.map(({ name, type }): StateColumn => ({
        name,
        postgresType: type.postgresType,
        role: keys.has(name) ? 'key' : 'value',
        merge: null,
      })),
      ...branchColumns,
    ];
    const own = [
      '"#partition" AS _partition',
      '"#offset" AS _offset',
      '"#time" AS _event_time',
      ...stored.map(({ name, sql }) => `${sql} AS ${quoteName(name)}`),
    ];
    const relation = this.#relation;
    const rows: Relation =
      keys.size === 0
        ? (records) =>
            `SELECT "#partition", 1::BIGINT AS "#rows", ${own.join(', ')} FROM ${relation(records)}`
        : (records) => {
            const by = ['"#partition"', ...[...keys].map(quoteName)].join(', ');
            return `SELECT * EXCLUDE ("#place") FROM (SELECT *, count(*) OVER (PARTITION BY ${by}) AS "#rows",
                row_number() OVER (PARTITION BY ${by} ORDER BY _event_time DESC, _offset DESC) AS "#place"
              FROM (SELECT "#partition", ${own.join(', ')} FROM ${relation(records)})) WHERE "#place" = 1`;
          };
    return { columns, results: values.map(resultOf), rows };
  }

  async #window(types: ReadonlyMap<string, CheckedExpression>): Promise<Made | null> {
    const table = this.#table;
    if (table.kind !== 'window') {
      return null;
    }
    const keys = await this.#groupKeys(table.groupBy, types);
    this.#limitKeys(table.groupBy, 'group_by');
    const args = new Map<string, { column: string; checked: CheckedExpression }>();
    const level: LevelColumn[] = [];
    for (const { name, argument } of table.aggregates) {
      if (argument === null || args.has(argument.sql)) {
        continue;
      }
      const checked = await this.#check(argument, `aggregate ${name}`, { expects: 'value' });
      if (checked !== null) {
        const column = `#${String(args.size)}`;
        args.set(argument.sql, { column, checked });
        this.#markUnsafe(column, checked);
        level.push({
          name: column,
          label: `aggregate ${name}`,
          sql: checked.sql,
          canFail: checked.canFail,
        });
      }
    }
    this.#addLevel(level);

    const stored = new Map(
      keys.map(({ name, type }): [string, Stored] => [name, { name, type, isKey: true }]),
    );
    const { states, results, prepared } = this.#aggregates(table, args, stored);
    if (this.#problems.length > 0) {
      return null;
    }
    const guards = this.#guard([...stored.values()]);
    this.#extend(guards.filter(({ name, sql }) => sql !== quoteName(name)));
    for (const columns of prepared) {
      this.#extend([...columns.values()]);
    }
    const relation = this.#relation;
    const groups = keys.map(({ name }) => quoteName(name));
    const size = String(table.window.size * 1000);
    // Floored towards minus infinity, also before 1970.
    const start = `"#time" - (("#time" % ${size}) + ${size}) % ${size}`;
    const list = [
      `${start} AS _window_start`,
      ...groups,
      ...states.map(({ column, sql }) => `${sql} AS ${quoteName(column.name)}`),
    ].join(', ');
    const rows: Relation = (records) =>
      finished(
        `SELECT "#partition", count(*) AS "#rows", ${list}
        FROM ${relation(records)} GROUP BY ALL`,
        states,
      );
    return {
      columns: [
        { name: '_window_start', postgresType: 'timestamptz', role: 'window_start', merge: null },
        ...keys.map(({ name, type }): StateColumn => ({
          name,
          postgresType: type.postgresType,
          role: 'key',
          merge: null,
        })),
        ...states.map(({ column }) => column),
        ...branchColumns,
      ],
      results: [...keys.map(resultOf), ...results],
      rows,
    };
  }

  /**
   * @param args the columns with the arguments' values, by their SQL
   * @param stored gets the columns of which a value reaches Postgres
   */
  #aggregates(
    table: WindowTable,
    args: ReadonlyMap<string, { column: string; checked: CheckedExpression }>,
    stored: Map<string, Stored>,
  ): Aggregates {
    const states: AggregateState[] = [];
    const results: ResultColumn[] = [];
    const prepared: Map<string, PreparedColumn>[] = [];
    /** The first one of those that share their states. */
    const owners = new Map<string, string>();
    for (const aggregate of table.aggregates) {
      const { name, argument } = aggregate;
      const found = argument === null ? undefined : args.get(argument.sql);
      if (argument !== null && found === undefined) {
        continue;
      }
      const call = `${aggregate.function}(${[argument?.sql.trim() ?? '*', ...parametersOf(aggregate)].join(', ')})`;
      const type = found && storableType(found.checked.type);
      if (argument !== null && type === null && aggregate.function !== 'count') {
        this.#report(
          argument,
          `aggregate ${name}: ${aggregate.function} of ${found?.checked.type.toString() ?? ''} isn't possible`,
        );
        continue;
      }
      if (found && type && keepsValues.has(aggregate.function)) {
        const label = `aggregate ${name}`;
        stored.set(found.column, { name: found.column, label, type, isKey: false });
      }
      const family = sharedStates(aggregate.function);
      const owned = `${family ?? ''} ${found?.column ?? ''}`;
      const owner = family === null ? undefined : owners.get(owned);
      owners.set(owned, owner ?? name);
      const made = aggregateStates(
        { ...aggregate, name: owner ?? name },
        found === undefined
          ? null
          : {
              column: found.column,
              type: type ?? { type: found.checked.type, postgresType: '' },
            },
      );
      if ('problem' in made) {
        this.#report(argument ?? { sql: '', at: table.at }, `aggregate ${name}: ${made.problem}`);
        continue;
      }
      states.push(...(owner === undefined ? made.states : []));
      for (const [level, column] of (made.prepared ?? []).entries()) {
        (prepared[level] ??= new Map()).set(column.name, column);
      }
      const comment = made.remark === undefined ? call : `${call}: ${made.remark}`;
      results.push({ name, postgresType: made.postgresType, sql: made.result, comment });
    }
    return { states, results, prepared };
  }

  #limitKeys(keys: readonly string[], what: string): void {
    if (keys.length > mostKeys) {
      const message = `${what}: at most ${String(mostKeys)} columns are possible, as Postgres has to index them`;
      this.#report({ sql: '', at: this.#table.at }, message);
    }
  }

  async #groupKeys(
    groupBy: readonly string[],
    types: ReadonlyMap<string, CheckedExpression>,
  ): Promise<Value[]> {
    const values: Value[] = [];
    const broken = new Set(this.#table.columns.map(({ name }) => name));
    for (const name of groupBy) {
      const column = this.#table.columns.find((candidate) => candidate.name === name);
      const expression = column?.expression ?? { sql: quoteName(name), at: this.#table.at };
      const checked =
        types.get(name) ??
        (broken.has(name) ? null : await this.#check(expression, 'group_by', { expects: 'value' }));
      const value =
        checked &&
        this.#storable(
          checked,
          expression,
          `group_by ${name}`,
          name,
          column?.expression.sql ?? name,
        );
      if (value) {
        values.push(value);
      }
    }
    return values;
  }

  #markUnsafe(name: string, { canFail, references }: CheckedExpression): void {
    if (canFail || [...references].some((reference) => this.#unsafe.has(reference))) {
      this.#unsafe.add(name);
    } else {
      // A column that takes the name of an unsafe one.
      this.#unsafe.delete(name);
    }
  }

  /** Values as they are stored: what can't be stored makes its record fail. */
  #guard(values: readonly Stored[]): { name: string; sql: string }[] {
    const failing: { name: string; sql: string }[] = [];
    const texts = values
      .filter(({ type, isKey }) => isKey && isText(type.type))
      .map(({ name }) => quoteName(name));
    const stored = values.map(({ name, label, type, isKey }) => {
      const value = quoteName(name);
      const own = this.#unsafe.has(name) ? guardedValue(type.type, value) : null;
      // Once for all of them.
      const guard = texts[0] === value ? guardedKey(texts, own ?? value) : own;
      if (guard !== null) {
        failing.push({ name: label ?? name, sql: guard });
      }
      const safe = guard ?? value;
      return { name, sql: isKey ? withoutNegativeZero(type.type, safe) : safe };
    });
    if (failing.length > 0) {
      this.#stages.push({ input: this.#relation, expressions: failing });
    }
    return stored;
  }

  #storable(
    checked: CheckedExpression,
    expression: Expression,
    what: string,
    name: string,
    comment: string,
  ): Value | null {
    const type = storableType(checked.type);
    if (type === null) {
      this.#report(
        expression,
        `${what}: a value of type ${checked.type.toString()} can't be stored in Postgres`,
        'cast it, for example to varchar',
      );
      return null;
    }
    // `region:` comes as "region".
    return { name, type, comment: comment.trim().replace(/^"(\w+)"$/, '$1') };
  }

  async #check(
    expression: Expression,
    what: string,
    scope: Pick<Scope, 'expects' | 'misplaced'>,
  ): Promise<CheckedExpression | null> {
    const checked = await checkExpression(this.#connection, expression, {
      ...scope,
      what: `table ${this.#table.name}, ${what}`,
      names: this.#names,
      sizes: this.#sizes,
      relation: () => this.#nulls,
      headers: false,
      growth: this.#growth,
    });
    if ('problems' in checked) {
      this.#problems.push(...checked.problems);
      return null;
    }
    const fields = new Set(this.#source.fields.map((field: Field) => field.name));
    for (const name of checked.references) {
      if (fields.has(name)) {
        this.#usedFields.add(name);
      }
    }
    return checked;
  }

  #report({ sql, at }: Expression, message: string, hint?: string): void {
    this.#problems.push({
      ...at,
      text: sql,
      message: `table ${this.#table.name}, ${message}`,
      ...(hint === undefined ? {} : { hint }),
    });
  }
}

interface Made {
  readonly columns: readonly StateColumn[];
  readonly results: readonly ResultColumn[];
  readonly rows: Relation;
}

interface Aggregates {
  readonly states: readonly AggregateState[];
  readonly results: readonly ResultColumn[];
  /** Columns that the states need, by name: in levels, which use what is before them. */
  readonly prepared: readonly ReadonlyMap<string, PreparedColumn>[];
}

/** A value that rows are made of. */
interface Stored {
  readonly name: string;
  /** What messages call it, if not by its name. */
  readonly label?: string;
  readonly type: StorableType;
  readonly isKey: boolean;
}

interface LevelColumn {
  readonly name: string;
  readonly label?: string;
  readonly sql: string;
  readonly canFail: boolean;
}

/** Of these, a value of a record's reaches Postgres. */
const keepsValues: ReadonlySet<AggregateFunction> = new Set(['min', 'max', 'first', 'last']);

function parametersOf({ function: by, parameters }: Aggregate): readonly string[] {
  return by === 'histogram' ? [`[${parameters.join(', ')}]`] : parameters;
}

/** Each step around the former one: the steps use their value more than once. */
function finished(rows: string, states: readonly AggregateState[]): string {
  const rounds = Math.max(0, ...states.map(({ finish = [] }) => finish.length));
  let sql = rows;
  for (let round = 0; round < rounds; round++) {
    const replaced = states.flatMap(({ column: { name }, finish = [] }) => {
      const step = finish[round];
      return step === undefined ? [] : [`${step(quoteName(name))} AS ${quoteName(name)}`];
    });
    sql = `SELECT * REPLACE (${replaced.join(', ')}) FROM (${sql})`;
  }
  return sql;
}

const branchColumns: readonly StateColumn[] = [
  { name: '_stream_records', postgresType: 'bigint', role: 'stream_records', merge: 'sum' },
  { name: '_batch_records', postgresType: 'bigint', role: 'batch_records', merge: 'sum' },
];

function resultOf({ name, type, comment }: Value): ResultColumn {
  return { name, postgresType: type.postgresType, sql: `s.${quoteName(name)}`, comment };
}

function extended(
  relation: string,
  carried: readonly string[],
  columns: readonly { name: string; sql: string }[],
): string {
  const list = [
    ...carried.map(quoteName),
    ...columns.map(({ name, sql }) => `${sql} AS ${quoteName(name)}`),
  ];
  return `(SELECT ${list.join(', ')} FROM ${relation})`;
}

function sameName(a: string, b: string): boolean {
  return a.toLowerCase() === b.toLowerCase();
}

/**
 * A row as a line of CSV. concat() leaves NULLs out, so a NULL is nothing between two commas and an
 * empty text is "". (0.6 µs for nine columns; replace() only where there is a quote saves 0.1, and so
 * do constants that are joined here and not for each row.)
 */
function lineOf(columns: readonly StateColumn[]): string {
  const parts: string[] = [];
  let text = '';
  columns.forEach((column, i) => {
    const [value, suffix] = fieldOf(column);
    parts.push(...(i === 0 ? [] : [quoteText(`${text},`)]), value);
    text = suffix;
  });
  return `concat(${parts.join(', ')}, ${quoteText(text)} || chr(10))`;
}

/** @returns SQL, and a constant text behind it */
function fieldOf({ name, postgresType, role }: StateColumn): [string, string] {
  const value = quoteName(name);
  if (role === 'stream_records' || role === 'batch_records') {
    return [`"#rows" * ${role === 'stream_records' ? '$stream' : '$batch'}::BIGINT`, ''];
  }
  if (role === 'event_time') {
    return [`make_timestamp(${value})::VARCHAR`, '+00'];
  }
  if (role === 'window_start') {
    const text = `make_timestamp(${value})::VARCHAR`;
    // It may be before the year 1.
    return [
      `CASE WHEN ${value} < ${String(firstMicrosecond)} THEN replace(${text}, ' (BC)', '') || '+00 BC' ELSE ${text} || '+00' END`,
      '',
    ];
  }
  return postgresType === 'text'
    ? [
        `'"' || CASE WHEN contains(${value}::VARCHAR, '"') THEN replace(${value}::VARCHAR, '"', '""') ELSE ${value}::VARCHAR END || '"'`,
        '',
      ]
    : [`${value}::VARCHAR`, ''];
}
