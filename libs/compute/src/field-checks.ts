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
 * How a field is judged by its JSON text `t` (as `from_json` gives it for the type JSON; NULL for a
 * missing field and for null). `from_json` into the field's own type is too lenient: it takes "12",
 * true and 1.5 for integers, 5 for a string, and rounds decimals.
 *
 * It is SQL that can't fail, whatever the text, and avoids casts that don't succeed: TRY_CAST takes
 * 0.03 µs where it does and 0.6 where it doesn't. Why a value is refused is told by
 * `refusal-reasons.ts`, for the refused records alone.
 */
export interface FieldCheck {
  /** Computed once, as column `raw`, for the other two to use; null if they don't. */
  readonly raw: string | null;
  /** BOOLEAN, never NULL for a text that isn't: whether it is a value of the field's type. */
  readonly valid: string;
  /** The value in the field's DuckDB type, for a valid text. */
  readonly value: string;
}

/** @param nul whether a text may have an escaped NUL, which is dearer to find */
export function checkField(field: Field, t: string, raw: string, nul: boolean): FieldCheck {
  const { type } = field;
  const check = (valid: string, value: string, rawSql: string | null = null): FieldCheck => ({
    raw: rawSql,
    valid,
    value: withDefault(field, value),
  });
  switch (type.kind) {
    case 'boolean':
      return check(`${t} IN ('true', 'false')`, `${t} = 'true'`);

    case 'int':
    case 'long':
      // The cast would round 1.5 and read 1e3.
      return check(
        `(${raw} IS NOT NULL AND NOT ${isFractional(t)})`,
        raw,
        `TRY_CAST(${t} AS ${type.kind === 'int' ? 'INTEGER' : 'BIGINT'})`,
      );

    case 'float':
      return check(
        `coalesce(isfinite(${raw}), false)`,
        raw,
        // As the processors do: through a double.
        `TRY_CAST(TRY_CAST(${t} AS DOUBLE) AS FLOAT)`,
      );

    case 'double':
      return check(`coalesce(isfinite(${raw}), false)`, raw, `TRY_CAST(${t} AS DOUBLE)`);

    case 'string':
      return check(nul ? `(${isString(t)} AND NOT ${hasNul(t)})` : isString(t), contentOf(t));

    case 'uuid':
      return check(
        `regexp_full_match(${t}, '"[0-9a-fA-F]{8}(-[0-9a-fA-F]{4}){3}-[0-9a-fA-F]{12}"')`,
        `TRY_CAST(${contentOf(t)} AS UUID)`,
      );

    case 'enum':
      return check(
        `CASE WHEN contains(${t}, '\\') THEN coalesce(json_extract_string(${t}, '$') IN (${type.symbols.map(quoteText).join(', ')}), false)
          ELSE ${t} IN (${type.symbols.map((symbol) => quoteText(JSON.stringify(symbol))).join(', ')}) END`,
        contentOf(t),
      );

    case 'decimal': {
      const { precision, scale } = type;
      const name = `DECIMAL(${String(precision)},${String(scale)})`;
      return check(
        `CASE WHEN ${isString(t)} THEN regexp_full_match(${t}, ${quoteText(`"${decimalPattern(precision, scale)}"`)})
          WHEN ${isFractional(t)} THEN ${isExactDouble(t, scale)} AND NOT ${isWrittenLong(t, field.name)} AND NOT ${hasVanished(t, field.name)} AND TRY_CAST(${t} AS ${name}) IS NOT NULL
          ELSE TRY_CAST(${t} AS ${name}) IS NOT NULL END`,
        `TRY_CAST(CASE WHEN ${isString(t)} THEN ${contentOf(t)} ELSE ${t} END AS ${name})`,
      );
    }

    case 'date':
      return check(
        `${raw} IS NOT NULL`,
        raw,
        // A cast alone takes 2024-02-2 and what follows it; a date's own text is the one way to write it.
        `CASE WHEN ${isString(t)} THEN CASE WHEN ${t} LIKE '"____-__-__"' AND year(TRY_CAST(${contentOf(t)} AS DATE)) BETWEEN 1 AND 9999
              AND TRY_CAST(${contentOf(t)} AS DATE)::VARCHAR = ${contentOf(t)}
            THEN TRY_CAST(${contentOf(t)} AS DATE) END
          WHEN NOT ${isFractional(t)} AND TRY_CAST(${t} AS BIGINT) BETWEEN ${String(firstDay)} AND ${String(lastDay)}
            THEN DATE '1970-01-01' + TRY_CAST(${t} AS INTEGER) END`,
      );

    case 'timestamp-millis':
    case 'timestamp-micros':
      return check(
        `${microseconds(field, t, raw)} IS NOT NULL`,
        `make_timestamptz(${microseconds(field, t, raw)})`,
        `CASE WHEN ${isString(t)} THEN CASE WHEN ${isTime(t)} THEN epoch_us(TRY_CAST(${contentOf(t)} AS TIMESTAMPTZ)) END
          WHEN NOT ${isFractional(t)} THEN TRY_CAST(${t} AS BIGINT) END`,
      );
  }
}

/**
 * BIGINT microseconds of a timestamp, NULL if it is none or outside of the years 1 to 9999.
 * @param raw microseconds of a string, units of the field's type of a number
 */
export function microseconds({ type }: Field, t: string, raw: string): string {
  const unit = unitMicroseconds(type);
  const within = (factor: bigint): string =>
    `${raw} BETWEEN ${String(firstMicrosecond / factor)} AND ${String(lastMicrosecond / factor)}`;
  // Compared before it is multiplied, which could overflow.
  return unit === 1n
    ? `CASE WHEN ${within(1n)} THEN ${raw} END`
    : `CASE WHEN ${isString(t)} THEN CASE WHEN ${within(1n)} THEN ${raw} END WHEN ${within(unit)} THEN ${raw} * ${String(unit)} END`;
}

/** A decimal as a string: no exponent, and nothing behind the point that the type would round away. */
export function decimalPattern(precision: number, scale: number): string {
  const digits = precision - scale;
  const whole = digits === 0 ? '0+' : `0*[0-9]{1,${String(digits)}}`;
  const fraction = scale === 0 ? '0+' : `[0-9]{1,${String(scale)}}0*`;
  return `-?${whole}([.]${fraction})?`;
}

/** What a string with a time looks like; as far as the digits mean one, the cast tells. */
export const timePattern =
  '[0-9]{4}-[0-9]{2}-[0-9]{2}(?:[ T][0-9]{2}:[0-9]{2}:[0-9]{2}(?:[.][0-9]+)?(?:Z|[+-](?:0[0-9]|1[0-5])(?::?[0-5][0-9]){0,2})?)?';

/**
 * The cast alone also takes names of time zones, whose offsets change, and reads 6:0:0 for a time, and
 * ` 025-03-01` for one of the year 25. (0.2 µs; `regexp_full_match` takes twice as long.)
 */
function isTime(t: string): string {
  const plain = `regexp_matches(${t}, '^"${timePattern}"$')`;
  // A digit may be written as an escape.
  return `CASE WHEN contains(${t}, '\\') THEN regexp_full_match(${contentOf(t)}, '${timePattern}') ELSE ${plain} END`;
}

const isString = (t: string): string => `starts_with(${t}, '"')`;

/** Of a number's text: yyjson writes a double always with a point or an exponent. */
const isFractional = (t: string): string => `(contains(${t}, '.') OR contains(${t}, 'e'))`;

/** What a JSON string's text says, escapes resolved where there are any. */
function contentOf(t: string): string {
  return `CASE WHEN contains(${t}, '\\') THEN json_extract_string(${t}, '$') ELSE ${t}[2:-2] END`;
}

function hasNul(t: string): string {
  return `CASE WHEN contains(${t}, '\\u0000') THEN contains(json_extract_string(${t}, '$'), chr(0)) ELSE false END`;
}

/**
 * Whether a double is the nearest one to a decimal of that scale and of at most 15 digits. Then that
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

/**
 * Whether the record's line has a number of more than fifteen digits under that name, which the parser
 * may have read as this one. It may have rounded digits away that nothing here would miss:
 * 281524546444344.97 becomes 281524546444345. Up to fifteen digits, a double stands for one decimal
 * alone. A long number elsewhere, in an object within the record, is another double.
 */
function isWrittenLong(t: string, name: string): string {
  const long = `"${name}"\\s*:\\s*(-?[0.]*[1-9][0-9.]{16,}(?:[eE][+-]?[0-9]+)?)`;
  const all = `TRY_CAST(regexp_extract_all("#line", ${quoteText(long)}, 1) AS DOUBLE[])`;
  return `CASE WHEN regexp_matches("#line", ${quoteText(long)}) THEN coalesce(list_contains(${all}, TRY_CAST(${t} AS DOUBLE)), true) ELSE false END`;
}

/**
 * Whether a number of which only zero is left was something else in the record's line: the parser reads
 * 1e-400, or four hundred zeros in front of the one, as 0.
 */
function hasVanished(t: string, name: string): string {
  const tiny = '[0.]{200}[0.]*[1-9]|[0.]*[1-9][0-9.]*[eE]-0*[1-9][0-9]{2}';
  return `CASE WHEN TRY_CAST(${t} AS DOUBLE) = 0 THEN regexp_matches("#line", ${quoteText(`"${name}"\\s*:\\s*-?(?:${tiny})`)}) ELSE false END`;
}
