import type { Field } from '@anabranch/definition';
import {
  firstDay,
  firstMicrosecond,
  lastDay,
  lastMicrosecond,
  unitMicroseconds,
  withDefault,
} from './field-types.ts';
import { quoteText } from './quoting.ts';

/**
 * Judges a field by its JSON text `t` (as `from_json` gives it for the type JSON, NULL for a missing
 * field and for null). `from_json` into the field's own type is too lenient: it takes "12", true and
 * 1.5 for integers, 5 for a string, and rounds decimals.
 *
 * All of it is SQL that can't fail, whatever the text; `TRY` would be dear (see `classify-sql.ts`).
 */
export interface FieldCheck {
  /** BOOLEAN, never NULL for a text that isn't: whether it is a value of the field's type. */
  readonly valid: string;
  /** VARCHAR `code|detail`, for a text that isn't valid. */
  readonly reason: string;
  /** The value in the field's DuckDB type, for a valid text. */
  readonly value: string;
}

export function checkField(field: Field, t: string): FieldCheck {
  const { type } = field;
  const reason = (code: string, detail: string): string =>
    quoteText(`${code}|field ${JSON.stringify(field.name)}: ${detail}`);
  const expected = (what: string): string =>
    `concat(${reason('wrong-type', `expected ${what}, got `)}, ${kindOf(t)})`;
  const check = (
    valid: string,
    value: string,
    what: string,
    reasons: readonly (readonly [string, string])[],
  ): FieldCheck => ({
    valid,
    value: withDefault(field, value),
    reason: cases(
      [[`${t} IS NULL`, reason('missing', 'it is required, but null or missing')], ...reasons],
      expected(what),
    ),
  });

  switch (type.kind) {
    case 'boolean':
      return check(`${t} IN ('true', 'false')`, `${t} = 'true'`, 'true or false', []);

    case 'int':
    case 'long': {
      const [name, bits] = type.kind === 'int' ? ['INTEGER', '32'] : ['BIGINT', '64'];
      const value = `TRY_CAST(${t} AS ${name})`;
      return check(
        // The cast rounds 1.5 and reads 1e3.
        `NOT ${isFractional(t)} AND ${value} IS NOT NULL`,
        value,
        'an integer',
        [
          [isNotFinite(t), reason('not-finite', 'expected an integer, got NaN or Infinity')],
          [
            `${isNumber(t)} AND ${isFractional(t)}`,
            reason('wrong-type', 'expected an integer without decimals or exponent'),
          ],
          [isNumber(t), reason('out-of-range', `the integer has more than ${bits} bits`)],
        ],
      );
    }

    case 'float':
    case 'double': {
      const double = `TRY_CAST(${t} AS DOUBLE)`;
      const value = type.kind === 'float' ? `TRY_CAST(${double} AS FLOAT)` : double;
      return check(`coalesce(isfinite(${value}), false)`, value, 'a number', [
        [
          `${isNotFinite(t)} OR ${isNumber(t)}`,
          reason('not-finite', `the number isn't finite as a ${type.kind}`),
        ],
      ]);
    }

    case 'string':
      return check(
        `CASE WHEN NOT ${isString(t)} THEN false WHEN $nul::BOOLEAN THEN NOT ${hasNul(t)} ELSE true END`,
        contentOf(t),
        'a string',
        [[isString(t), reason('nul', 'the string has a NUL character, which Postgres refuses')]],
      );

    case 'uuid': {
      const value = `TRY_CAST(${contentOf(t)} AS UUID)`;
      return check(`${isString(t)} AND ${value} IS NOT NULL`, value, 'a UUID as a string', [
        [isString(t), reason('wrong-type', 'the string is not a UUID')],
      ]);
    }

    case 'enum': {
      const symbols = type.symbols.map(quoteText).join(', ');
      return check(`${isString(t)} AND ${contentOf(t)} IN (${symbols})`, contentOf(t), 'a string', [
        [isString(t), reason('enum', `the string is none of ${type.symbols.join(', ')}`)],
      ]);
    }

    case 'decimal': {
      const name = `DECIMAL(${String(type.precision)},${String(type.scale)})`;
      const text = `CASE WHEN ${isString(t)} THEN ${contentOf(t)} ELSE ${t} END`;
      const value = `TRY_CAST(${text} AS ${name})`;
      const fits = `${value} IS NOT NULL`;
      return check(
        `CASE WHEN ${isString(t)} THEN ${isExactText(contentOf(t), type.scale)} AND ${fits}
              WHEN ${isFractional(t)} THEN ${isExactDouble(t, type.scale)} AND ${fits}
              ELSE ${fits} END`,
        value,
        `a decimal with at most ${String(type.precision)} digits, ${String(type.scale)} of them behind the point, as a string or number`,
        [
          [isNotFinite(t), reason('not-finite', 'expected a decimal, got NaN or Infinity')],
          [
            `${isString(t)} AND (${hasExponent(contentOf(t))} OR NOT coalesce(isfinite(TRY_CAST(${contentOf(t)} AS DOUBLE)), false))`,
            reason('wrong-type', 'the string is not a decimal number such as "-12.34"'),
          ],
          [
            `${isString(t)} AND NOT ${isExactText(contentOf(t), type.scale)}`,
            reason('inexact', `the string has more than ${String(type.scale)} decimals`),
          ],
          [
            `${isFractional(t)} AND ${isNumber(t)} AND NOT ${isExactDouble(t, type.scale)}`,
            reason(
              'inexact',
              `a JSON number can't be relied on to hold it with exactly ${String(type.scale)} decimals; send it as a string`,
            ),
          ],
          [
            `${isString(t)} OR ${isNumber(t)}`,
            reason('out-of-range', `it has more than ${String(type.precision)} digits`),
          ],
        ],
      );
    }

    case 'date': {
      const string = `TRY_CAST(${contentOf(t)} AS DATE)`;
      const days = `TRY_CAST(${t} AS BIGINT)`;
      const inRange = `${days} BETWEEN ${String(firstDay)} AND ${String(lastDay)}`;
      const value = `CASE WHEN ${isString(t)} THEN ${string} WHEN ${inRange} THEN DATE '1970-01-01' + ${days}::INTEGER END`;
      return check(
        `CASE WHEN ${isString(t)} THEN ${contentOf(t)} LIKE '____-__-__' AND coalesce(year(${string}) BETWEEN 1 AND 9999, false)
              ELSE NOT ${isFractional(t)} AND coalesce(${inRange}, false) END`,
        value,
        'an ISO 8601 date (2026-01-31) or days since 1970',
        [
          [isString(t), reason('wrong-type', 'the string is not a date such as "2026-01-31"')],
          [
            `${isNumber(t)} AND ${isFractional(t)}`,
            reason('wrong-type', 'expected days since 1970 without decimals or exponent'),
          ],
          [isNumber(t), reason('out-of-range', 'the date is not within the years 1 to 9999')],
        ],
      );
    }

    case 'timestamp-millis':
    case 'timestamp-micros': {
      const time = microsecondsOf(field, t);
      const unit = type.kind === 'timestamp-millis' ? 'milliseconds' : 'microseconds';
      return check(
        `${time} IS NOT NULL`,
        `make_timestamptz(${time})`,
        `an ISO 8601 time (2026-01-31T12:00:00Z) or ${unit} since 1970`,
        [
          [
            `${isString(t)} AND TRY_CAST(${contentOf(t)} AS TIMESTAMPTZ) IS NULL`,
            reason('wrong-type', 'the string is not a time such as "2026-01-31T12:00:00Z"'),
          ],
          [
            `${isNumber(t)} AND ${isFractional(t)}`,
            reason('wrong-type', `expected ${unit} since 1970 without decimals or exponent`),
          ],
          [
            `${isString(t)} OR ${isNumber(t)}`,
            reason('out-of-range', 'the time is not within the years 1 to 9999'),
          ],
        ],
      );
    }
  }
}

/** BIGINT microseconds of a timestamp's text; NULL if it is none or outside of the years 1 to 9999. */
export function microsecondsOf({ type }: Field, t: string): string {
  const unit = unitMicroseconds(type);
  const iso = `epoch_us(TRY_CAST(${contentOf(t)} AS TIMESTAMPTZ))`;
  const number = `TRY_CAST(${t} AS BIGINT)`;
  // Compared before it is multiplied, which could overflow. Floor towards the year 1 is exact: the
  // first microsecond is a whole number of milliseconds.
  return `CASE WHEN ${isString(t)} THEN CASE WHEN ${contentOf(t)} LIKE '____-__-__%'
        AND ${iso} BETWEEN ${String(firstMicrosecond)} AND ${String(lastMicrosecond)} THEN ${iso} END
      WHEN NOT ${isFractional(t)} AND ${number} BETWEEN ${String(firstMicrosecond / unit)} AND ${String(lastMicrosecond / unit)}
      THEN ${number} * ${String(unit)} END`;
}

const isString = (t: string): string => `starts_with(${t}, '"')`;

/** Numbers of JSON are written without spaces; NaN and Infinity, which yyjson reads, aren't numbers. */
const isNumber = (t: string): string => `regexp_matches(${t}, '^-?[0-9]')`;
const isNotFinite = (t: string): string => `regexp_matches(${t}, '^-?[NIni]') AND ${t} <> 'null'`;

/** Of a number's text: yyjson writes a double always with a point or an exponent. */
const isFractional = (t: string): string => `(contains(${t}, '.') OR contains(${t}, 'e'))`;

/** What a JSON string's text says, escapes resolved where there are any. */
function contentOf(t: string): string {
  return `CASE WHEN contains(${t}, '\\') THEN json_extract_string(${t}, '$') ELSE ${t}[2:-2] END`;
}

function hasNul(t: string): string {
  return `CASE WHEN contains(${t}, '\\u0000') THEN contains(json_extract_string(${t}, '$'), chr(0)) ELSE false END`;
}

const hasExponent = (text: string): string => `(contains(${text}, 'e') OR contains(${text}, 'E'))`;

/**
 * Whether the cast of a string to a decimal, which rounds, has nothing to round. (Not by a regular
 * expression: that takes 0.1 µs, these 0.03.)
 */
function isExactText(text: string, scale: number): string {
  const decimals = `strlen(rtrim(${text}, '0')) - strpos(${text}, '.')`;
  return `(NOT ${hasExponent(text)} AND (NOT contains(${text}, '.') OR ${decimals} <= ${String(scale)}))`;
}

/**
 * Whether a double is the nearest one to a decimal of that scale and of at most 15 digits. Then it
 * is the only such decimal, and both the shortest text of the double and its cast give it exactly:
 * v·10^s is off by less than one in ten, so that rounding finds the integer, and dividing two
 * integers below 2^53 by IEEE's rules gives the nearest double again. (10^s is exact up to s = 22.)
 */
function isExactDouble(t: string, scale: number): string {
  if (scale > 22) {
    return 'false';
  }
  const v = `TRY_CAST(${t} AS DOUBLE)`;
  const power = `1e${String(scale)}`;
  return `coalesce(isfinite(${v}) AND abs(${v} * ${power}) < 1e15 AND round(${v} * ${power}) / ${power} = ${v}, false)`;
}

function kindOf(t: string): string {
  return cases(
    [
      [isString(t), `'a string'`],
      [`${t} IN ('true', 'false')`, `'a boolean'`],
      [`starts_with(${t}, '{')`, `'an object'`],
      [`starts_with(${t}, '[')`, `'an array'`],
    ],
    `'a number'`,
  );
}

function cases(whens: readonly (readonly [string, string])[], otherwise: string): string {
  return `CASE ${whens.map(([when, then]) => `WHEN ${when} THEN ${then}`).join(' ')} ELSE ${otherwise} END`;
}
