import avro from 'avsc';
import { defaultSql } from './avro-default.ts';
import type { Problem } from './errors.ts';
import { type Located, maxValues, readLocated } from './located.ts';
import type { Field, FieldType } from './model.ts';
import { describe, quote, SourceText } from './source-text.ts';
import { didYouMean } from './suggestion.ts';

/** Longer than any schema that a person or generator writes for a flat record. */
const maxSchemaLength = 1024 * 1024;
/** DuckDB and Postgres take about 1,600 columns. */
const maxFields = 1000;
const maxSymbols = 10_000;
/** What DuckDB computes exactly. */
const maxPrecision = 38;

const primitives = ['boolean', 'int', 'long', 'float', 'double', 'string', 'bytes', 'null'];
const plainKinds = ['boolean', 'int', 'long', 'float', 'double', 'string'] as const;
const logicalTypes: Readonly<Record<string, readonly string[]>> = {
  decimal: ['bytes', 'fixed'],
  date: ['int'],
  'timestamp-millis': ['long'],
  'timestamp-micros': ['long'],
  uuid: ['string'],
};
const leaveOut = 'leave the field out: what the schema does not name is ignored';

interface Failure {
  readonly problem: string;
  readonly hint?: string;
  readonly at: Located;
}

type Resolved = {
  readonly type: FieldType;
  readonly nullable: boolean;
  readonly nullFirst: boolean;
};

/**
 * The fields of an Avro record schema (`.avsc`).
 *
 * @returns null if something is wrong with it; then `problems` says what, at its place in the file
 */
export function readAvroSchema(file: string, text: string, problems: Problem[]): Field[] | null {
  const source = new SourceText(file, text.replace(/^\ufeff/, ''));
  const before = problems.length;
  if (text.length > maxSchemaLength) {
    problems.push({ file, line: 1, column: 1, text: '', message: 'is longer than 1 MiB' });
    return null;
  }
  let parsed: unknown;
  try {
    parsed = JSON.parse(source.text);
  } catch (error) {
    problems.push(jsonProblem(source, error as SyntaxError));
    return null;
  }
  // Told here at once: the reader below takes seconds until it knows.
  if (valuesIn(parsed) > maxValues) {
    problems.push(source.problem([0, 1], `has more than ${String(maxValues)} values`));
    return null;
  }
  // JSON is YAML too, and this reader knows where each value stands.
  const root = readLocated(source, problems);
  if (!root || problems.length > before) {
    return null;
  }
  const fields = new SchemaReader(source, problems).readRecord(root);
  if (problems.length > before) {
    return null;
  }
  try {
    avro.Type.forSchema(parsed as avro.Schema);
  } catch (error) {
    problems.push(source.problem(root.span, `not an Avro schema: ${(error as Error).message}`));
    return null;
  }
  return fields;
}

/** Values in a parsed JSON text, as far as there are no more than possible. */
function valuesIn(parsed: unknown): number {
  const waiting = [parsed];
  let count = 0;
  for (; waiting.length > 0 && count <= maxValues; count++) {
    const value = waiting.pop();
    if (typeof value === 'object' && value !== null) {
      for (const inner of Object.values(value)) {
        waiting.push(inner);
      }
    }
  }
  return count;
}

function jsonProblem(source: SourceText, error: SyntaxError): Problem {
  const at = jsonErrorOffset(source.text, error);
  const message = error.message.replace(/ in JSON at position.*|, (\.\.\.)?".*/s, '');
  return source.problem([at, at + 1], `not JSON: ${message}`);
}

/** V8 tells the position of most errors, but of an unexpected token it shows only its surroundings. */
function jsonErrorOffset(text: string, error: SyntaxError): number {
  const [, position] = /at position (\d+)/.exec(error.message) ?? [];
  if (position !== undefined) {
    return Number(position);
  }
  if (!error.message.startsWith('Unexpected token')) {
    return text.length;
  }
  // The shortest beginning of the text that has the error ends with the token.
  let good = 0;
  let bad = text.length;
  while (bad - good > 1) {
    const middle = Math.floor((good + bad) / 2);
    if (hasUnexpectedToken(text.slice(0, middle))) {
      bad = middle;
    } else {
      good = middle;
    }
  }
  return good;
}

function hasUnexpectedToken(text: string): boolean {
  try {
    JSON.parse(text);
    return false;
  } catch (error) {
    return (error as Error).message.startsWith('Unexpected token');
  }
}

class SchemaReader {
  readonly #source: SourceText;
  readonly #problems: Problem[];
  readonly #named = new Map<string, Located>();
  #record = '';
  #namespace = '';

  constructor(source: SourceText, problems: Problem[]) {
    this.#source = source;
    this.#problems = problems;
  }

  readRecord(root: Located): Field[] {
    if (child(root, 'type')?.value !== 'record') {
      this.#report(
        child(root, 'type') ?? root,
        'the schema must be a record',
        'as in { "type": "record", "name": "Order", "fields": […] }',
      );
      return [];
    }
    const name = child(root, 'name');
    if (!name || !isFullName(name.value)) {
      this.#report(name ?? root, 'the record needs a "name": letters, digits and _');
      return [];
    }
    const namespace = child(root, 'namespace')?.value;
    this.#namespace =
      typeof namespace === 'string'
        ? namespace
        : name.value.slice(0, Math.max(0, name.value.lastIndexOf('.')));
    this.#record = this.#fullName(name.value);
    const fields = child(root, 'fields');
    if (!fields || !Array.isArray(fields.value) || fields.value.length === 0) {
      this.#report(fields ?? root, 'the record needs "fields", at least one');
      return [];
    }
    if (fields.value.length > maxFields) {
      this.#report(fields, `has more than ${String(maxFields)} fields`, leaveOut);
      return [];
    }
    return this.#readFields(fields);
  }

  #readFields(fields: Located): Field[] {
    const read: Field[] = [];
    const names = new Map<string, string>();
    for (const field of fields.children.values()) {
      const name = child(field, 'name');
      if (typeof name?.value !== 'string' || !/^[A-Za-z_][A-Za-z0-9_]{0,127}$/.test(name.value)) {
        this.#report(
          name ?? field,
          'a field needs a "name" of letters, digits and _, at most 128, no digit first',
        );
        continue;
      }
      const other = names.get(name.value.toLowerCase());
      if (other !== undefined) {
        const message = `the fields ${quote(other)} and ${quote(name.value)} differ only in case`;
        this.#report(
          name,
          other === name.value ? `the field ${quote(other)} is there twice` : message,
          'SQL takes them for one: leave one out',
        );
        continue;
      }
      names.set(name.value.toLowerCase(), name.value);
      const result = this.#readField(name.value, field);
      if ('problem' in result) {
        this.#report(result.at, `field ${quote(name.value)}: ${result.problem}`, result.hint);
      } else {
        read.push(result);
      }
    }
    return read;
  }

  #readField(name: string, field: Located): Field | Failure {
    const type = child(field, 'type');
    if (!type) {
      return { problem: 'has no "type"', at: field };
    }
    const misplaced = child(field, 'logicalType');
    if (misplaced) {
      return {
        problem: '"logicalType" stands beside "type", where Avro ignores it',
        hint: `write "type": { "type": ${JSON.stringify(type.value)}, "logicalType": ${JSON.stringify(misplaced.value)} }`,
        at: misplaced,
      };
    }
    const resolved = Array.isArray(type.value) ? this.#resolveUnion(type) : this.#resolveOne(type);
    if ('problem' in resolved) {
      return resolved;
    }
    const byDefault = child(field, 'default');
    if (!byDefault) {
      return { name, type: resolved.type, nullable: resolved.nullable, defaultSql: null };
    }
    if (resolved.nullable && (byDefault.value === null) !== resolved.nullFirst) {
      return {
        problem: `the default of a union must be of its first type`,
        hint: resolved.nullFirst ? 'put "null" second, or make it null' : 'put "null" first',
        at: byDefault,
      };
    }
    if (byDefault.value === null && resolved.nullable) {
      return { name, type: resolved.type, nullable: true, defaultSql: null };
    }
    const sql = defaultSql(resolved.type, byDefault.value);
    if (sql === null) {
      return { problem: `the default isn't a possible ${resolved.type.kind}`, at: byDefault };
    }
    return { name, type: resolved.type, nullable: resolved.nullable, defaultSql: sql };
  }

  #resolveUnion(union: Located): Resolved | Failure {
    const branches = [...union.children.values()];
    const [only, ...others] = branches.filter((branch) => !isNull(branch));
    const nulls = branches.length - others.length - (only ? 1 : 0);
    if (!only || others.length > 0 || nulls > 1) {
      return {
        problem: 'the only unions possible are of "null" and one other type',
        hint: leaveOut,
        at: union,
      };
    }
    if (Array.isArray(only.value)) {
      return { problem: 'a union directly in a union', at: only };
    }
    const resolved = this.#resolveOne(only);
    return 'problem' in resolved
      ? resolved
      : { ...resolved, nullable: nulls === 1, nullFirst: nulls === 1 && only !== branches[0] };
  }

  #resolveOne(type: Located, depth = 0): Resolved | Failure {
    const { value } = type;
    if (typeof value === 'string') {
      return this.#resolveName(type, value, depth);
    }
    const inner = child(type, 'type');
    if (!inner) {
      return { problem: 'a type must be a name, a union, or an object with a "type"', at: type };
    }
    if (depth > 8) {
      return { problem: 'nested too deeply', at: type };
    }
    const logical = child(type, 'logicalType');
    if (logical) {
      return this.#resolveLogical(type, inner, logical);
    }
    if (typeof inner.value !== 'string') {
      return { problem: 'a type within a type', hint: 'write the inner one alone', at: inner };
    }
    if (inner.value === 'enum') {
      return this.#resolveEnum(type);
    }
    if (inner.value === 'fixed') {
      this.#define(type);
    }
    return this.#resolveOne(inner, depth + 1);
  }

  #resolveName(type: Located, name: string, depth: number): Resolved | Failure {
    const kind = plainKinds.find((plain) => plain === name);
    if (kind) {
      return found({ kind });
    }
    if (name === 'bytes' || name === 'fixed') {
      const decimal = '{ "type": "bytes", "logicalType": "decimal", "precision": 12, "scale": 2 }';
      return {
        problem: `${name} are possible only as decimal`,
        hint: `write ${decimal}, or ${leaveOut}`,
        at: type,
      };
    }
    if (['record', 'error', 'array', 'map', 'null'].includes(name)) {
      return {
        problem: `the type ${name} isn't possible: a field holds one plain value`,
        hint: leaveOut,
        at: type,
      };
    }
    if (name === this.#record || this.#fullName(name) === this.#record) {
      return { problem: `the record contains itself`, hint: leaveOut, at: type };
    }
    const named = this.#named.get(this.#fullName(name)) ?? this.#named.get(name);
    if (named && depth <= 8) {
      return this.#resolveOne(named, depth + 1);
    }
    const hint = Object.hasOwn(logicalTypes, name)
      ? `write { "type": "${logicalTypes[name]?.[0] ?? ''}", "logicalType": "${name}" }`
      : (didYouMean(name, [...primitives, 'enum', ...this.#named.keys()]) ??
        `possible: ${[...plainKinds, 'enum', ...Object.keys(logicalTypes)].join(', ')}`);
    return { problem: `unknown type ${quote(name)}`, hint, at: type };
  }

  #resolveLogical(type: Located, inner: Located, logical: Located): Resolved | Failure {
    const name = typeof logical.value === 'string' ? logical.value : describe(logical.value);
    const bases = Object.hasOwn(logicalTypes, name) ? logicalTypes[name] : undefined;
    if (!bases) {
      const known = Object.keys(logicalTypes);
      return {
        problem: `the logical type ${quote(name)} isn't possible`,
        hint: didYouMean(name, known) ?? `possible: ${known.join(', ')}; or ${leaveOut}`,
        at: logical,
      };
    }
    if (typeof inner.value !== 'string' || !bases.includes(inner.value)) {
      const problem = `the logical type ${name} belongs to ${bases.join(' or ')}, not ${describe(inner.value)}`;
      return { problem, at: inner };
    }
    if (inner.value === 'fixed') {
      this.#define(type);
    }
    switch (name) {
      case 'decimal':
        return this.#resolveDecimal(type);
      case 'date':
      case 'timestamp-millis':
      case 'timestamp-micros':
      case 'uuid':
        return found({ kind: name });
      default:
        return { problem: `the logical type ${quote(name)} isn't possible`, at: logical };
    }
  }

  #resolveDecimal(type: Located): Resolved | Failure {
    const precision = child(type, 'precision');
    const scale = child(type, 'scale');
    const digits = precision?.value;
    if (!isInteger(digits) || digits < 1 || digits > maxPrecision) {
      return {
        problem: `a decimal needs a "precision" from 1 to ${String(maxPrecision)}`,
        at: precision ?? type,
      };
    }
    const decimals = scale ? scale.value : 0;
    if (!isInteger(decimals) || decimals < 0 || decimals > digits) {
      return {
        problem: `the "scale" must be from 0 to the precision, ${String(digits)}`,
        at: scale ?? type,
      };
    }
    return found({ kind: 'decimal', precision: digits, scale: decimals });
  }

  #resolveEnum(type: Located): Resolved | Failure {
    this.#define(type);
    const symbols = child(type, 'symbols');
    const list: unknown[] = Array.isArray(symbols?.value) ? symbols.value : [];
    if (list.length === 0 || list.length > maxSymbols) {
      return {
        problem: `an enum needs "symbols", 1 to ${String(maxSymbols)}`,
        at: symbols ?? type,
      };
    }
    const names = new Set<string>();
    for (const symbol of symbols?.children.values() ?? []) {
      if (typeof symbol.value !== 'string' || !/^[A-Za-z_][A-Za-z0-9_]*$/.test(symbol.value)) {
        return { problem: 'a symbol must be of letters, digits and _, no digit first', at: symbol };
      }
      if (names.has(symbol.value)) {
        return { problem: `the symbol ${quote(symbol.value)} is there twice`, at: symbol };
      }
      names.add(symbol.value);
    }
    return found({ kind: 'enum', symbols: [...names] });
  }

  #define(type: Located): void {
    const name = child(type, 'name')?.value;
    const namespace = child(type, 'namespace')?.value;
    if (typeof name === 'string') {
      const full = typeof namespace === 'string' ? `${namespace}.${name}` : this.#fullName(name);
      this.#named.set(full, type);
    }
  }

  #fullName(name: string): string {
    return name.includes('.') || this.#namespace === '' ? name : `${this.#namespace}.${name}`;
  }

  #report(at: Located, message: string, hint?: string): void {
    this.#problems.push(this.#source.problem(at.span, message, hint));
  }
}

function isNull(branch: Located): boolean {
  return branch.value === 'null' || child(branch, 'type')?.value === 'null';
}

function found(type: FieldType): Resolved {
  return { type, nullable: false, nullFirst: false };
}

function child(located: Located, key: string): Located | undefined {
  return located.children.get(key);
}

function isInteger(value: unknown): value is number {
  return Number.isSafeInteger(value);
}

function isFullName(value: unknown): value is string {
  return (
    typeof value === 'string' && /^[A-Za-z_][A-Za-z0-9_]*(\.[A-Za-z_][A-Za-z0-9_]*)*$/.test(value)
  );
}
