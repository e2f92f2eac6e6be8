import { type DuckDBType, DuckDBTypeId } from '@duckdb/node-api';
import { firstMicrosecond, lastMicrosecond } from './field-types.ts';

/** How values of a DuckDB type are stored in Postgres. */
export interface StorableType {
  readonly type: DuckDBType;
  readonly postgresType: string;
}

/** null: there is nothing in Postgres that holds its values. */
export function storableType(type: DuckDBType): StorableType | null {
  const postgresType = postgresTypeOf(type);
  return postgresType === null ? null : { type, postgresType };
}

const postgresTypes: ReadonlyMap<DuckDBTypeId, string> = new Map([
  [DuckDBTypeId.BOOLEAN, 'boolean'],
  [DuckDBTypeId.TINYINT, 'smallint'],
  [DuckDBTypeId.UTINYINT, 'smallint'],
  [DuckDBTypeId.SMALLINT, 'smallint'],
  [DuckDBTypeId.USMALLINT, 'integer'],
  [DuckDBTypeId.INTEGER, 'integer'],
  [DuckDBTypeId.UINTEGER, 'bigint'],
  [DuckDBTypeId.BIGINT, 'bigint'],
  [DuckDBTypeId.UBIGINT, 'numeric(20)'],
  [DuckDBTypeId.HUGEINT, 'numeric(39)'],
  [DuckDBTypeId.FLOAT, 'real'],
  [DuckDBTypeId.DOUBLE, 'double precision'],
  [DuckDBTypeId.VARCHAR, 'text'],
  [DuckDBTypeId.ENUM, 'text'],
  [DuckDBTypeId.DATE, 'date'],
  [DuckDBTypeId.TIMESTAMP, 'timestamp'],
  [DuckDBTypeId.TIMESTAMP_TZ, 'timestamptz'],
  [DuckDBTypeId.UUID, 'uuid'],
]);

function postgresTypeOf(type: DuckDBType): string | null {
  return type.typeId === DuckDBTypeId.DECIMAL
    ? `numeric(${String(type.width)},${String(type.scale)})`
    : (postgresTypes.get(type.typeId) ?? null);
}

const integers: ReadonlySet<DuckDBTypeId> = new Set([
  DuckDBTypeId.TINYINT,
  DuckDBTypeId.UTINYINT,
  DuckDBTypeId.SMALLINT,
  DuckDBTypeId.USMALLINT,
  DuckDBTypeId.INTEGER,
  DuckDBTypeId.UINTEGER,
  DuckDBTypeId.BIGINT,
  DuckDBTypeId.UBIGINT,
]);

/** An integer of at most 64 bits. */
export function isInteger(type: DuckDBType): boolean {
  return integers.has(type.typeId);
}

export function isFloat(type: DuckDBType): boolean {
  return type.typeId === DuckDBTypeId.FLOAT || type.typeId === DuckDBTypeId.DOUBLE;
}

/**
 * SQL that fails for a value that DuckDB can compute but Postgres can't hold, so that it is the
 * record that ends as a dead letter, not the whole partial; null if every value can be held.
 *
 * The failure is a cast of the message to a number: DuckDB's `error()` is volatile, so `TRY`, which
 * finds the failing records, refuses it.
 */
export function guardedValue(type: DuckDBType, value: string): string | null {
  const [bad, message] = unstorable(type, value);
  return bad === null
    ? null
    : failingWhere(bad, `concat('${message}: ', left(${value}::VARCHAR, 40))`, value);
}

function failingWhere(bad: string, message: string, value: string): string {
  return `CASE WHEN ${bad} THEN CASE WHEN CAST(${message} AS UTINYINT) IS NULL THEN NULL ELSE ${value} END ELSE ${value} END`;
}

/**
 * A row of an index in Postgres has at most 2704 bytes, and an index at most 32 columns. Beside that many
 * bytes of text, there is room for as many other keys as are allowed.
 */
export const longestKey = 1500;
export const mostKeys = 30;

/** Whether a type's values are neither texts nor made of others. */
export function isPlain(type: DuckDBType): boolean {
  return (postgresTypes.has(type.typeId) && !isText(type)) || type.typeId === DuckDBTypeId.DECIMAL;
}

export const isText = ({ typeId }: DuckDBType): boolean =>
  typeId === DuckDBTypeId.VARCHAR || typeId === DuckDBTypeId.ENUM;

/** SQL that fails where the texts of a key are longer than Postgres can index. */
export function guardedKey(texts: readonly string[], value: string): string {
  const length = texts.map((text) => `coalesce(strlen(${text}::VARCHAR), 0)`).join(' + ');
  return failingWhere(
    `${length} > ${String(longestKey)}`,
    `concat('a key with ', ${length}, ' bytes of text; Postgres can index ${String(longestKey)}')`,
    value,
  );
}

function unstorable({ typeId }: DuckDBType, value: string): [string, string] | [null, null] {
  if (typeId === DuckDBTypeId.VARCHAR) {
    return [`contains(${value}, chr(0))`, 'text with a NUL character'];
  }
  if (typeId === DuckDBTypeId.DATE) {
    const bad = `NOT isinf(${value}) AND year(${value}) NOT BETWEEN 1 AND 9999`;
    return [bad, 'date outside of the years 1 to 9999'];
  }
  if (typeId === DuckDBTypeId.TIMESTAMP || typeId === DuckDBTypeId.TIMESTAMP_TZ) {
    const range = `BETWEEN ${String(firstMicrosecond)} AND ${String(lastMicrosecond)}`;
    const bad = `NOT isinf(${value}) AND epoch_us(${value}) NOT ${range}`;
    return [bad, 'time outside of the years 1 to 9999'];
  }
  return [null, null];
}

/** Whether DuckDB and Postgres hold -0 and 0 for equal, but either may come out. */
export function withoutNegativeZero(type: DuckDBType, value: string): string {
  // Not `value + 0`: the optimizer takes that for the value.
  return isFloat(type) ? `CASE WHEN ${value} = 0 THEN 0 ELSE ${value} END` : value;
}
