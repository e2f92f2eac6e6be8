import type { FieldType } from './model.ts';

const msPerDay = 86_400_000;
/** Years 1 to 9999: what a timestamp's text holds in JSON, DuckDB and Postgres alike. */
const firstMs = Date.parse('0001-01-01T00:00:00Z');
const lastMs = Date.UTC(9999, 11, 31, 23, 59, 59, 999);

/**
 * SQL literal of an Avro default, of the field's own type, so that it can stand in `coalesce`.
 *
 * @returns null if the value isn't one of the type
 */
export function defaultSql(type: FieldType, value: unknown): string | null {
  switch (type.kind) {
    case 'boolean':
      return typeof value === 'boolean' ? String(value) : null;
    case 'int':
      return isInteger(value) && value >= -(2 ** 31) && value < 2 ** 31 ? String(value) : null;
    case 'long':
      return isInteger(value) ? `CAST(${String(value)} AS BIGINT)` : null;
    case 'float':
      return isFinite(value) && Math.abs(value) < 3.4e38 ? cast(value, 'FLOAT') : null;
    case 'double':
      return isFinite(value) ? cast(value, 'DOUBLE') : null;
    case 'string':
      return typeof value === 'string' ? quoted(value) : null;
    case 'uuid':
      return typeof value === 'string' && /^[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}$/i.test(value)
        ? cast(value, 'UUID')
        : null;
    case 'enum':
      return typeof value === 'string' && type.symbols.includes(value) ? quoted(value) : null;
    case 'date':
      return isInteger(value) && inRange(value * msPerDay)
        ? `DATE ${quoted(new Date(value * msPerDay).toISOString().slice(0, 10))}`
        : null;
    case 'timestamp-millis':
      return isInteger(value) && inRange(value) ? timestamp(BigInt(value) * 1000n) : null;
    case 'timestamp-micros':
      return isInteger(value) && inRange(value / 1000) ? timestamp(BigInt(value)) : null;
    case 'decimal':
      return typeof value === 'string' ? decimal(value, type.precision, type.scale) : null;
  }
}

function quoted(text: string): string {
  return `'${text.replaceAll("'", "''")}'`;
}

function cast(value: string | number, type: string): string {
  return `CAST(${quoted(String(value))} AS ${type})`;
}

function isInteger(value: unknown): value is number {
  return Number.isSafeInteger(value);
}

function isFinite(value: unknown): value is number {
  return Number.isFinite(value);
}

function inRange(ms: number): boolean {
  return ms >= firstMs && ms <= lastMs;
}

function timestamp(microseconds: bigint): string {
  const rest = ((microseconds % 1_000_000n) + 1_000_000n) % 1_000_000n;
  const seconds = new Date(Number((microseconds - rest) / 1000n)).toISOString().slice(0, 19);
  return `TIMESTAMPTZ '${seconds.replace('T', ' ')}.${String(rest).padStart(6, '0')}+00'`;
}

/** Avro writes the default of bytes as a text of one character a byte: two's complement, big endian. */
function decimal(bytes: string, precision: number, scale: number): string | null {
  if (
    bytes.length === 0 ||
    bytes.length > 17 ||
    Buffer.from(bytes, 'latin1').toString('latin1') !== bytes
  ) {
    return null;
  }
  const hex = Buffer.from(bytes, 'latin1').toString('hex');
  const unscaled = BigInt.asIntN(bytes.length * 8, BigInt(`0x${hex}`));
  const digits = String(unscaled < 0n ? -unscaled : unscaled);
  if (digits.length > precision) {
    return null;
  }
  const padded = digits.padStart(scale + 1, '0');
  const whole = padded.slice(0, padded.length - scale);
  const text = `${unscaled < 0n ? '-' : ''}${whole}${scale > 0 ? `.${padded.slice(-scale)}` : ''}`;
  return cast(text, `DECIMAL(${String(precision)},${String(scale)})`);
}
