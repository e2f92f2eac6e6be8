import { isUtf8 } from 'node:buffer';
import { type Json, NumberText, readJson } from './read-json.ts';

type Kind =
  | 'boolean'
  | 'int'
  | 'long'
  | 'float'
  | 'double'
  | 'string'
  | 'enum'
  | 'uuid'
  | 'decimal'
  | 'date'
  | 'timestamp-millis'
  | 'timestamp-micros';

export interface FieldOfRecord {
  readonly name: string;
  readonly kind: Kind;
  readonly required?: true;
  readonly precision?: number;
  readonly scale?: number;
  /** In an Avro schema. */
  readonly type: unknown;
  readonly postgres: string;
}

const decimal = (name: string, precision: number, scale: number): FieldOfRecord => ({
  name,
  kind: 'decimal',
  precision,
  scale,
  type: { type: 'bytes', logicalType: 'decimal', precision, scale },
  postgres: `numeric(${precision},${scale})`,
});
const symbols = ['order', 'refund', 'test'];

/** A field of each type, in the order of the schema: the first that is wrong is the reason. */
export const fields: readonly FieldOfRecord[] = [
  { name: 'id', kind: 'long', required: true, type: 'long', postgres: 'bigint' },
  {
    name: 'kind',
    kind: 'enum',
    required: true,
    type: { type: 'enum', name: 'Kind', symbols },
    postgres: 'text',
  },
  decimal('amount', 12, 2),
  decimal('precise', 28, 10),
  { name: 'quantity', kind: 'int', type: 'int', postgres: 'integer' },
  { name: 'big', kind: 'long', type: 'long', postgres: 'bigint' },
  { name: 'ratio', kind: 'double', type: 'double', postgres: 'float8' },
  { name: 'single', kind: 'float', type: 'float', postgres: 'real' },
  { name: 'flag', kind: 'boolean', type: 'boolean', postgres: 'boolean' },
  { name: 'label', kind: 'string', type: 'string', postgres: 'text' },
  { name: 'day', kind: 'date', type: { type: 'int', logicalType: 'date' }, postgres: 'date' },
  {
    name: 'at',
    kind: 'timestamp-micros',
    type: { type: 'long', logicalType: 'timestamp-micros' },
    postgres: 'timestamptz',
  },
  { name: 'device', kind: 'uuid', type: { type: 'string', logicalType: 'uuid' }, postgres: 'uuid' },
  {
    name: 'event_time',
    kind: 'timestamp-millis',
    required: true,
    type: { type: 'long', logicalType: 'timestamp-millis' },
    postgres: 'timestamptz',
  },
];

export const maxRecordBytes = 2 * 1024 * 1024;
export const maxLineBreaks = 200_000;

/**
 * What is to become of a record: a row of these values, as text, or a dead letter with one of these
 * codes. There is more than one where the reason is told from a second reading, with other limits: of
 * what is nested deeply, of a field that occurs twice, and behind a second byte order mark.
 */
export type Expectation =
  { readonly dead: readonly string[] } | { readonly row: readonly (string | null)[] };

/** Lists and objects in one another, from here on. */
const deep = 1000;

class Refusal extends Error {
  readonly code: string;

  constructor(code: string) {
    super(code);
    this.code = code;
  }
}

/** What README and operations.md say of a record's value, written anew. */
export function expectationOf(value: Buffer | null): Expectation {
  if (value === null) {
    return { dead: ['tombstone'] };
  }
  if (value.length > maxRecordBytes) {
    return { dead: ['too-large'] };
  }
  let breaks = 0;
  for (let at = value.indexOf(10); at >= 0; at = value.indexOf(10, at + 1)) {
    breaks++;
  }
  if (breaks > maxLineBreaks) {
    return { dead: ['too-many-lines'] };
  }
  if (!isUtf8(value)) {
    return { dead: ['not-utf8'] };
  }
  const text = value.toString('utf8', hasMark(value) ? 3 : 0);
  const read = readJson(text);
  if (read === undefined) {
    return { dead: ['malformed', ...(text.startsWith('\uFEFF') ? ['wrong-type'] : [])] };
  }
  const { value: record, depth, repeated } = read;
  const other = [...(depth > deep ? ['malformed'] : []), ...(repeated ? ['wrong-type'] : [])];
  if (!(record instanceof Map)) {
    return { dead: ['not-an-object', ...other] };
  }
  try {
    return {
      row: fields.map((field) => {
        const found = record.get(field.name);
        if (found === undefined || found === null) {
          if (field.required) {
            throw new Refusal('missing');
          }
          return null;
        }
        return valueOf(field, found);
      }),
    };
  } catch (error) {
    if (error instanceof Refusal) {
      return { dead: [error.code, ...other] };
    }
    throw error;
  }
}

function hasMark(value: Buffer): boolean {
  return value[0] === 0xef && value[1] === 0xbb && value[2] === 0xbf;
}

/** @throws Refusal */
function valueOf(field: FieldOfRecord, found: Json): string {
  const text = typeof found === 'string' ? found : null;
  const number = found instanceof NumberText ? found.text : null;
  if (number !== null && /[a-df-z]/i.test(number)) {
    // Whatever the field: no type takes them.
    throw new Refusal('not-finite');
  }
  switch (field.kind) {
    case 'boolean':
      return typeof found === 'boolean' ? String(found) : refuse('wrong-type');
    case 'int':
      return String(integer(number, 32));
    case 'long':
      return String(integer(number, 64));
    case 'float':
    case 'double': {
      if (number === null) {
        return refuse('wrong-type');
      }
      const value = field.kind === 'float' ? Math.fround(Number(number)) : Number(number);
      return Number.isFinite(value) ? String(value) : refuse('not-finite');
    }
    case 'string':
      return text === null ? refuse('wrong-type') : text.includes('\0') ? refuse('nul') : text;
    case 'enum':
      return text === null ? refuse('wrong-type') : symbols.includes(text) ? text : refuse('enum');
    case 'uuid':
      return text !== null && /^[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}$/i.test(text)
        ? text
        : refuse('wrong-type');
    case 'decimal':
      return decimalOf(text, number, field.precision ?? 0, field.scale ?? 0);
    case 'date':
      return dateOf(text, number);
    case 'timestamp-millis':
      return timeOf(text, number, 1000n);
    case 'timestamp-micros':
      return timeOf(text, number, 1n);
  }
}

function refuse(code: string): never {
  throw new Refusal(code);
}

function integer(number: string | null, bits: number): bigint {
  if (number === null || /[.e]/i.test(number)) {
    return refuse('wrong-type');
  }
  const value = BigInt(number);
  return BigInt.asIntN(bits, value) === value ? value : refuse('out-of-range');
}

/**
 * An exponent is taken from numbers alone, and only where the number is exactly a decimal of the type.
 * A number with a fraction has at most 15 digits, counting all decimals of its type: a double holds
 * no more.
 */
function decimalOf(
  text: string | null,
  number: string | null,
  precision: number,
  scale: number,
): string {
  const written = text ?? number;
  if (written === null) {
    return refuse('wrong-type');
  }
  const parts = /^(-?)(\d+)(?:\.(\d+))?(?:e([+-]?\d+))?$/i.exec(written);
  if (!parts || (text !== null && parts[4] !== undefined)) {
    return refuse('wrong-type');
  }
  const [, sign = '', whole = '', fraction = '', exponent] = parts;
  if (exponent !== undefined) {
    const value = Number(written);
    const digits = BigInt(whole + fraction);
    if (digits === 0n) {
      return '0';
    }
    if (!(Math.abs(value) * 10 ** scale < 1e15) || Math.abs(Number(exponent)) > 40) {
      return refuse('inexact');
    }
    const places = fraction.length - Number(exponent);
    const unscaled =
      places <= scale
        ? digits * 10n ** BigInt(scale - places)
        : digits % 10n ** BigInt(places - scale) === 0n
          ? digits / 10n ** BigInt(places - scale)
          : refuse('inexact');
    return decimalText(sign, unscaled, precision, scale);
  }
  const kept = fraction.replace(/0+$/, '');
  if (kept.length > scale) {
    return refuse('inexact');
  }
  const unscaled = BigInt(whole + kept.padEnd(scale, '0'));
  const result = decimalText(sign, unscaled, precision, scale);
  const digits = (whole + fraction).replace(/^0+/, '');
  if (number !== null && fraction !== '' && (digits.length > 15 || unscaled >= 10n ** 15n)) {
    return refuse('inexact');
  }
  return result;
}

function decimalText(sign: string, unscaled: bigint, precision: number, scale: number): string {
  if (unscaled >= 10n ** BigInt(precision)) {
    return refuse('out-of-range');
  }
  const digits = String(unscaled).padStart(scale + 1, '0');
  return `${unscaled === 0n ? '' : sign}${digits.slice(0, -scale)}.${digits.slice(-scale)}`;
}

const dayMicroseconds = 86_400_000_000n;
const firstMicrosecond = -62_135_596_800_000_000n;
const lastMicrosecond = 253_402_300_799_999_999n;

function dateOf(text: string | null, number: string | null): string {
  if (text !== null) {
    const micros = microsecondsOfDay(text);
    return micros === null ? refuse('wrong-type') : textOfDay(micros / dayMicroseconds);
  }
  if (number === null || /[.e]/i.test(number)) {
    return refuse('wrong-type');
  }
  const micros = BigInt(number) * dayMicroseconds;
  return micros < firstMicrosecond || micros > lastMicrosecond
    ? refuse('out-of-range')
    : textOfDay(BigInt(number));
}

function timeOf(text: string | null, number: string | null, unit: bigint): string {
  let micros: bigint;
  if (text !== null) {
    const read = microsecondsOfTime(text);
    if (read === null) {
      return refuse('wrong-type');
    }
    micros = read;
  } else if (number === null || /[.e]/i.test(number)) {
    return refuse('wrong-type');
  } else {
    micros = BigInt(number) * unit;
  }
  if (micros < firstMicrosecond || micros > lastMicrosecond) {
    return refuse('out-of-range');
  }
  const rest = ((micros % dayMicroseconds) + dayMicroseconds) % dayMicroseconds;
  const two = (value: bigint): string => String(value).padStart(2, '0');
  const seconds = rest / 1_000_000n;
  return `${textOfDay((micros - rest) / dayMicroseconds)} ${two(seconds / 3600n)}:${two((seconds / 60n) % 60n)}:${two(seconds % 60n)}.${String(rest % 1_000_000n).padStart(6, '0')}+00`;
}

function textOfDay(days: bigint): string {
  return new Date(Number(days) * 86_400_000).toISOString().slice(0, 10);
}

function microsecondsOfDay(text: string): bigint | null {
  const [, year = '', month = '', day = ''] = /^(\d{4})-(\d\d)-(\d\d)$/.exec(text) ?? [];
  const date = new Date(`${year}-${month}-${day}T00:00:00Z`);
  return year === '' ||
    year === '0000' ||
    Number.isNaN(date.getTime()) ||
    date.toISOString().slice(0, 10) !== text
    ? null
    : BigInt(date.getTime()) * 1000n;
}

/** ISO 8601, with a space for the T too. What is finer than a microsecond is cut off. */
function microsecondsOfTime(text: string): bigint | null {
  const day = microsecondsOfDay(text.slice(0, 10));
  if (day === null || text.length === 10) {
    return day;
  }
  const parts =
    /^[ T](\d\d):(\d\d):(\d\d)(?:\.(\d+))?(?:Z|([+-])(\d\d)(?::?(\d\d)(?::?(\d\d))?)?)?$/.exec(
      text.slice(10),
    );
  if (!parts) {
    return null;
  }
  const [, hour, minute, second, fraction = '', sign, hours = '0', minutes = '0', seconds = '0'] =
    parts;
  const isOff = [minute, second, minutes, seconds].some((part) => Number(part) > 59);
  if (isOff || Number(hour) > 23 || Number(hours) > 15) {
    return null;
  }
  const inSeconds = (h: unknown, m: unknown, s: unknown): number =>
    Number(h) * 3600 + Number(m) * 60 + Number(s);
  const offset = inSeconds(hours, minutes, seconds) * (sign === '-' ? -1 : 1);
  const micros = BigInt(fraction.slice(0, 6).padEnd(6, '0'));
  return day + BigInt(inSeconds(hour, minute, second) - offset) * 1_000_000n + micros;
}
