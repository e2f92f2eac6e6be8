import { parseAggregate } from './aggregate.ts';
import { hashOf } from './definition-hash.ts';
import type { Located } from './located.ts';
import type { Aggregate, Column, Expression, Field, Source, Table, WindowTable } from './model.ts';
import type { SectionReader } from './section-reader.ts';
import { identifierPattern, type TableShape } from './shape.ts';
import { badIdentifier } from './shape-problems.ts';
import { quote } from './source-text.ts';

/** null: it is there, but something is wrong with it. */
export type TableSource = Source | null;

/** Columns that the views have of themselves. */
export const reservedColumns: ReadonlySet<string> = new Set([
  'window_start',
  'window_end',
  'status',
  'revision',
  'stream_records',
  'batch_records',
  'updated_at',
  'source_partition',
  'source_offset',
]);

/** null if something is wrong with it or with its source. */
export function readTable(
  name: string,
  shape: TableShape,
  at: Located,
  sources: ReadonlyMap<string, TableSource>,
  reader: SectionReader,
): Table | null {
  const before = reader.problemCount;
  const source = sources.get(shape.source);
  if (source === undefined) {
    const names = new Set(sources.keys());
    reader.unknownName(at.children.get('source') ?? at, shape.source, { what: 'source', names });
  }
  checkKind(shape, at, reader);
  const table = new TableReader(name, shape, at, reader, source ?? null).read();
  return reader.problemCount > before ? null : table;
}

/** A table is one of three kinds, told by the keys that it has. */
function checkKind(shape: TableShape, at: Located, reader: SectionReader): void {
  const get = (key: string): Located => at.children.get(key) ?? at;
  if (shape.window) {
    if (shape.key) {
      reader.reportKey(
        get('key'),
        'key and window exclude each other: a window table has a row per window and group',
        'use group_by instead of key',
      );
    }
    if (!shape.aggregates || Object.keys(shape.aggregates).length === 0) {
      reader.reportKey(get('window'), 'a window needs aggregates', 'such as { records: count(*) }');
    }
    return;
  }
  for (const key of ['group_by', 'aggregates'] as const) {
    if (shape[key]) {
      reader.reportKey(get(key), `${key} needs a window`, 'add window: { tumbling: 1m }');
    }
  }
  const empty = !shape.columns || Object.keys(shape.columns).length === 0;
  if (empty && !shape.aggregates) {
    reader.reportKey(
      get('columns'),
      'a table without a window needs columns',
      'list the fields that it should have',
    );
  }
}

class TableReader {
  readonly #name: string;
  readonly #shape: TableShape;
  readonly #at: Located;
  readonly #reader: SectionReader;
  readonly #source: Source | null;
  readonly #fields: ReadonlySet<string>;

  constructor(
    name: string,
    shape: TableShape,
    at: Located,
    reader: SectionReader,
    source: Source | null,
  ) {
    this.#name = name;
    this.#shape = shape;
    this.#at = at;
    this.#reader = reader;
    this.#source = source;
    this.#fields = new Set(source?.fields.map((field) => field.name));
  }

  read(): Table | null {
    const shape = this.#shape;
    const source = this.#source;
    const where = this.#get('where');
    const latency = this.#get('latency');
    const base = {
      name: this.#name,
      at: this.#reader.keyPosition(this.#at),
      description: shape.description?.trim() ?? null,
      source: shape.source,
      latency: latency ? this.#reader.duration(latency, 1000, '10ms', '1h') : null,
      dropNulls: this.#names('drop_nulls', ['field']),
      where: where ? this.#reader.expression(where) : null,
      columns: this.#columns(),
    };
    // From the file, so that a column with a problem doesn't make another of its key.
    const columns = new Set(
      Array.isArray(shape.columns) ? shape.columns : Object.keys(shape.columns ?? {}),
    );
    const key = this.#names('key', ['column'], columns);
    const window = shape.window && this.#window(columns);
    if (!source) {
      return null;
    }
    const meaning = {
      fields: source.fields.map(fieldMeaning),
      source: source.name,
      topic: source.topic,
      eventTime: source.eventTime,
      dropNulls: base.dropNulls,
      where: base.where?.sql ?? null,
      columns: base.columns.map((column) => [column.name, column.expression.sql]),
    };
    if (window) {
      const aggregates = window.aggregates.map(({ name, function: by, argument, parameters }) => [
        name,
        by,
        argument?.sql ?? null,
        ...(parameters.length === 0 ? [] : [parameters]),
      ]);
      return {
        ...base,
        kind: 'window',
        ...window,
        hash: hashOf({ ...meaning, ...window, aggregates }),
      };
    }
    return shape.key
      ? { ...base, kind: 'upsert', key, hash: hashOf({ ...meaning, key }) }
      : { ...base, kind: 'append', hash: hashOf(meaning) };
  }

  #columns(): Column[] {
    const at = this.#get('columns');
    if (Array.isArray(this.#shape.columns)) {
      this.#names('columns', ['field']);
      return [...(at?.children.values() ?? [])].flatMap((item) => {
        const name = String(item.value);
        const known = !this.#source || this.#fields.has(name);
        return known && this.#checkName(name, item)
          ? [{ name, expression: { sql: `"${name}"`, at: this.#reader.positionWithin(item, 0) } }]
          : [];
      });
    }
    const columns: Column[] = [];
    for (const [key, value] of at?.children ?? []) {
      const name = String(key);
      this.#checkReserved(name, value.keySpan ? { ...value, span: value.keySpan } : value);
      const expression =
        value.span[0] === value.span[1]
          ? this.#bareField(name, value)
          : this.#reader.expression(value);
      if (expression) {
        columns.push({ name, expression });
      }
    }
    return columns;
  }

  /** `region:` with nothing behind it. */
  #bareField(name: string, at: Located): Expression | null {
    if (this.#source && !this.#fields.has(name)) {
      this.#reader.unknownName(at, name, { what: 'field', names: this.#fields });
      return null;
    }
    // In quotes, since a field may have the name of an SQL keyword.
    return { sql: `"${name}"`, at: this.#reader.keyPosition(at) };
  }

  #window(columns: ReadonlySet<string>): Pick<WindowTable, 'window' | 'groupBy' | 'aggregates'> {
    const at = this.#get('window');
    const size = this.#reader.duration(at?.children.get('tumbling'), 0, '1s', '366d');
    const grace = this.#reader.duration(at?.children.get('grace'), 0, '0s', '366d');
    const groupBy = this.#names('group_by', ['column', 'field'], columns);
    for (const item of this.#get('group_by')?.children.values() ?? []) {
      const name = String(item.value);
      if (columns.has(name) || this.#fields.has(name)) {
        this.#checkName(name, item);
      }
    }
    return { window: { size, grace }, groupBy, aggregates: this.#aggregates(new Set(groupBy)) };
  }

  #aggregates(groupBy: ReadonlySet<string>): Aggregate[] {
    const aggregates: Aggregate[] = [];
    for (const [key, at] of this.#get('aggregates')?.children ?? []) {
      const name = String(key);
      const keyAt = at.keySpan ? { ...at, span: at.keySpan } : at;
      this.#checkReserved(name, keyAt);
      if (groupBy.has(name)) {
        this.#reader.report(keyAt, `group_by has a column ${quote(name)} already`);
      }
      const parsed = parseAggregate(String(at.value));
      if ('problem' in parsed) {
        this.#reader.reportWithin(at, parsed.span, parsed.problem, parsed.hint);
        continue;
      }
      const argument = parsed.argument && {
        sql: parsed.argument.sql,
        at: this.#reader.positionWithin(at, parsed.argument.at),
      };
      aggregates.push({ name, function: parsed.function, argument, parameters: parsed.parameters });
    }
    return aggregates;
  }

  #get(key: string): Located | undefined {
    return this.#at.children.get(key);
  }

  /** Names of fields aren't checked where the source is broken: they may be right. */
  #names(
    key: string,
    whats: readonly ('field' | 'column')[],
    columns: ReadonlySet<string> = new Set(),
  ): string[] {
    if (!this.#source && whats.includes('field')) {
      const list = this.#get(key)?.value;
      return Array.isArray(list) ? list.map(String) : [];
    }
    const known = whats.map((what) => ({
      what,
      names: what === 'field' ? this.#fields : columns,
    }));
    return this.#reader.names(this.#get(key), known);
  }

  /** A field that becomes a column under its own name, which in Avro can be anything. */
  #checkName(name: string, at: Located): boolean {
    if (identifierPattern.test(name)) {
      return this.#checkReserved(name, at);
    }
    const [message, rule] = badIdentifier(name);
    const other = /^such as "(\w+)"/.exec(rule)?.[1] ?? 'name';
    this.#reader.report(
      at,
      `${message} of a column`,
      `define one, as in columns: { ${other}: ${name} }`,
    );
    return false;
  }

  #checkReserved(name: string, at: Located): boolean {
    if (!reservedColumns.has(name)) {
      return true;
    }
    this.#reader.report(
      at,
      `every table has a column ${quote(name)} of itself`,
      `choose another name, such as "${name === 'status' || name === 'revision' ? 'own' : 'my'}_${name}"`,
    );
    return false;
  }
}

function fieldMeaning({ name, type, nullable, defaultSql }: Field): unknown {
  return [name, type, nullable, defaultSql];
}
