import type { Field, FieldType } from '@anabranch/definition';
import { quoteName, quoteText } from './quoting.ts';

/** First and last microsecond of the years 1 to 9999: DuckDB, Postgres and ISO 8601 agree on them. */
export const firstMicrosecond = -62_135_596_800_000_000n;
export const lastMicrosecond = 253_402_300_799_999_999n;
/** Days since 1970 of 0001-01-01 and 9999-12-31. */
export const firstDay = -719_162;
export const lastDay = 2_932_896;

/** The DuckDB type in which expressions see a field. */
export function duckdbType(type: FieldType): string {
  switch (type.kind) {
    case 'boolean':
      return 'BOOLEAN';
    case 'int':
      return 'INTEGER';
    case 'long':
      return 'BIGINT';
    case 'float':
      return 'FLOAT';
    case 'double':
      return 'DOUBLE';
    case 'string':
    case 'enum':
      return 'VARCHAR';
    case 'uuid':
      return 'UUID';
    case 'date':
      return 'DATE';
    case 'timestamp-millis':
    case 'timestamp-micros':
      return 'TIMESTAMPTZ';
    case 'decimal':
      return `DECIMAL(${String(type.precision)},${String(type.scale)})`;
  }
}

/** Microseconds of one unit of a timestamp that is written as a number. */
export function unitMicroseconds(type: FieldType): bigint {
  return type.kind === 'timestamp-millis' ? 1000n : 1n;
}

/** Falls back on the Avro default, for a missing field as for a null. */
export function withDefault(field: Field, sql: string): string {
  return field.defaultSql === null ? sql : `coalesce(${sql}, ${field.defaultSql})`;
}

/** Second argument of `from_json`: the JSON type of each field. */
export function structure(fields: readonly Field[], typeOf: (type: FieldType) => string): string {
  return quoteText(JSON.stringify(Object.fromEntries(fields.map((f) => [f.name, typeOf(f.type)]))));
}

/** A relation of one row that has each field as NULL, to bind expressions to. */
export function typedNulls(fields: readonly Field[]): string {
  const columns = fields.map(
    ({ name, type }) => `CAST(NULL AS ${duckdbType(type)}) AS ${quoteName(name)}`,
  );
  return `(SELECT ${columns.join(', ')})`;
}
