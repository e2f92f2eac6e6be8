import type { Field } from '@anabranch/definition';
import { decimalPattern, timePattern } from './field-checks.ts';
import { firstDay, lastDay } from './field-types.ts';

export interface Reason {
  /** For machines. */
  readonly code: string;
  /** For people; one of few, whatever the records hold. */
  readonly detail: string;
}

/** A number's text, whose digits JavaScript's numbers may not keep. */
class JsonNumber {
  readonly text: string;

  constructor(text: string) {
    this.text = text;
  }
}

type Parsed = JsonNumber | string | boolean | null | undefined | object;

/**
 * Says why a record was refused, which the query that refused it doesn't: telling it in SQL for each
 * record that may need it makes the plan three times as large, and planning is most of what a small
 * step costs. So this only explains, and nothing hangs on it but the text.
 */
export function refusalReason(line: string, fields: readonly Field[]): Reason {
  const record = parse(line) as Parsed;
  if (record === tooDeep) {
    return { code: 'malformed', detail: 'the value is nested too deeply' };
  }
  if (record === undefined) {
    return { code: 'malformed', detail: 'the value is not valid JSON' };
  }
  if (
    typeof record !== 'object' ||
    record === null ||
    Array.isArray(record) ||
    record instanceof JsonNumber
  ) {
    return {
      code: 'not-an-object',
      detail: `expected a JSON object, got ${kindOf(record)}`,
    };
  }
  for (const field of fields) {
    const value = Object.hasOwn(record, field.name)
      ? (record as Record<string, Parsed>)[field.name]
      : undefined;
    const problem = problemOf(field, value);
    if (problem !== null) {
      const [code, text] = problem;
      return { code, detail: `field ${JSON.stringify(field.name)}: ${text}` };
    }
  }
  return {
    code: 'wrong-type',
    detail: 'a value is not what the schema says; does its field occur twice?',
  };
}

/** undefined: not even DuckDB would read it; or `tooDeep`, for JavaScript, not for DuckDB. */
function parse(line: string): unknown {
  // DuckDB reads NaN, Infinity and trailing commas as well, which JSON doesn't have. A string may lack
  // its end: if it had to have one, the search would begin anew at each quote in it, and a record that
  // is cut short would take time by the square of its length.
  const strict = line
    .replaceAll(/"(?:[^"\\]|\\[^])*"?|-?\b(?:nan|inf|infinity)\b/gi, (token) =>
      token.startsWith('"') ? token : `{"${notFinite}":0}`,
    )
    .replaceAll(/"(?:[^"\\]|\\[^])*"?|(?<![[{,:]\s*),(?=\s*[}\]])/g, (token) =>
      token === ',' ? '' : token,
    );
  try {
    return JSON.parse(strict, (key, value: unknown, context?: { source?: string }) => {
      // Half of a surrogate pair, which DuckDB doesn't read.
      if (!key.isWellFormed() || (typeof value === 'string' && !value.isWellFormed())) {
        throw new SyntaxError('lone surrogate');
      }
      if (typeof value === 'object' && value !== null && Object.hasOwn(value, notFinite)) {
        return new JsonNumber('NaN');
      }
      return typeof value === 'number' ? new JsonNumber(context?.source ?? String(value)) : value;
    }) as unknown;
  } catch (error) {
    return error instanceof RangeError ? tooDeep : undefined;
  }
}

const tooDeep = {};

/** A key that stands for a number that isn't finite. */
const notFinite = ' not finite';

const isFractional = (number: string): boolean => /[.eE]/.test(number);

type Problem = readonly [code: string, text: string];

function problemOf({ type, nullable, defaultSql }: Field, value: Parsed): Problem | null {
  if (value === null || value === undefined) {
    return nullable || defaultSql !== null
      ? null
      : ['missing', value === null ? 'it is required, but null' : 'it is required, but missing'];
  }
  const expected = (what: string): Problem => [
    'wrong-type',
    `expected ${what}, got ${kindOf(value)}`,
  ];
  const number = value instanceof JsonNumber ? value.text : null;
  if (number === 'NaN') {
    return ['not-finite', 'expected a finite number, got NaN or Infinity'];
  }
  switch (type.kind) {
    case 'boolean':
      return typeof value === 'boolean' ? null : expected('true or false');
    case 'int':
    case 'long':
      return number === null
        ? expected('an integer')
        : (fractional(number, 'an integer') ?? outside(number, type.kind === 'int' ? 32 : 64));
    case 'float':
    case 'double': {
      if (number === null) {
        return expected('a number');
      }
      const finite = Number.isFinite(
        type.kind === 'float' ? Math.fround(Number(number)) : Number(number),
      );
      return finite ? null : ['not-finite', `the number is too large for a ${type.kind}`];
    }
    case 'string':
      if (typeof value !== 'string') {
        return expected('a string');
      }
      return value.includes('\0')
        ? ['nul', 'the string has a NUL character, which Postgres refuses']
        : null;
    case 'uuid':
      if (typeof value !== 'string') {
        return expected('a UUID as a string');
      }
      return /^[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}$/i.test(value)
        ? null
        : ['wrong-type', 'the string is not a UUID'];
    case 'enum':
      if (typeof value !== 'string') {
        return expected('a string');
      }
      return type.symbols.includes(value)
        ? null
        : ['enum', `the string is none of ${type.symbols.join(', ')}`];
    case 'decimal':
      return decimalProblem(value, number, type.precision, type.scale) ?? null;
    case 'date':
      return dateProblem(value, number);
    case 'timestamp-millis':
    case 'timestamp-micros':
      return timestampProblem(
        value,
        number,
        type.kind === 'timestamp-millis' ? 'milliseconds' : 'microseconds',
      );
  }
}

function decimalProblem(
  value: Parsed,
  number: string | null,
  precision: number,
  scale: number,
): Problem | null {
  const digits = `${String(precision)} digits, ${String(scale)} of them behind the point`;
  const text = typeof value === 'string' ? value : number;
  if (text === null) {
    return ['wrong-type', `expected a decimal as a string or number, got ${kindOf(value)}`];
  }
  const plain = /^-?[0-9]+([.][0-9]+)?$/.test(text);
  if (typeof value === 'string' && !plain) {
    return ['wrong-type', 'the string is not a decimal number such as "-12.34"'];
  }
  const decimals = /[.](\d*?)0*$/.exec(text)?.[1]?.length ?? 0;
  if (plain && decimals > scale) {
    return ['inexact', `it has more than ${String(scale)} decimals`];
  }
  if (plain && !new RegExp(`^${decimalPattern(precision, scale)}$`).test(text)) {
    return ['out-of-range', `it has more than ${digits}`];
  }
  // As isExactDouble says it in SQL: then it is another field that the record was refused for.
  const double = Number(number);
  const power = 10 ** scale;
  const written = number ?? '';
  const exact =
    !/^-?[0.]*[1-9][0-9.]{16}/.test(written) &&
    (double !== 0 || !/^-?[0.]*[1-9]/.test(written)) &&
    scale <= 22 &&
    Math.abs(double * power) < 1e15 &&
    Math.round(double * power) / power === double;
  return number !== null && isFractional(number) && !exact
    ? [
        'inexact',
        `a JSON number can't be relied on to hold it with exactly ${String(scale)} decimals; send it as a string`,
      ]
    : null;
}

const yearsPattern = /^(?!0000)\d{4}-\d\d-\d\d/;
const outsideOfYears: Problem = ['out-of-range', 'it is not within the years 1 to 9999'];

function dateProblem(value: Parsed, number: string | null): Problem | null {
  if (typeof value === 'string') {
    return yearsPattern.test(value) && value.length === 10 && isCalendarDay(value)
      ? null
      : ['wrong-type', 'the string is not a date such as "2026-01-31"'];
  }
  if (number === null) {
    return ['wrong-type', `expected a date (2026-01-31) or days since 1970, got ${kindOf(value)}`];
  }
  const day = Number(number);
  return (
    fractional(number, 'days since 1970') ??
    (day < firstDay || day > lastDay ? outsideOfYears : null)
  );
}

function isBeyondYears(time: string): boolean {
  const [, sign, hours = '0', minutes = '0'] =
    /([+-])(\d\d)(?::?(\d\d))?(?::?\d\d)?$/.exec(time.slice(19)) ?? [];
  const offset = (Number(hours) * 60 + Number(minutes)) * (sign === '-' ? -60_000 : 60_000);
  const at = Date.parse(`${time.slice(0, 10)}T${time.slice(11, 19)}Z`) - offset;
  return at < -62_135_596_800_000 || at >= 253_402_300_800_000;
}

function isCalendarDay(text: string): boolean {
  const day = new Date(`${text}T00:00:00Z`);
  return !Number.isNaN(day.getTime()) && day.toISOString().startsWith(text);
}

function timestampProblem(value: Parsed, number: string | null, unit: string): Problem | null {
  if (typeof value === 'string') {
    const isTime =
      yearsPattern.test(value) &&
      new RegExp(`^${timePattern}$`).test(value) &&
      isCalendarDay(value.slice(0, 10)) &&
      /^(?:[01]\d|2[0-3]):[0-5]\d:[0-5]\d|^$/.test(value.slice(11));
    if (!isTime) {
      return ['wrong-type', 'the string is not a time such as "2026-01-31T12:00:00Z"'];
    }
    // Only an offset can take it out of the years that its digits show.
    return isBeyondYears(value) ? outsideOfYears : null;
  }
  if (number === null) {
    return [
      'wrong-type',
      `expected a time (2026-01-31T12:00:00Z) or ${unit} since 1970, got ${kindOf(value)}`,
    ];
  }
  const far = unit === 'milliseconds' ? 1n : 1000n;
  return (
    fractional(number, `${unit} since 1970`) ??
    (number.length > longestInteger ||
    BigInt(number) < -62_135_596_800_000n * far ||
    BigInt(number) >= 253_402_300_800_000n * far
      ? outsideOfYears
      : null)
  );
}

function fractional(number: string, what: string): Problem | null {
  return isFractional(number)
    ? ['wrong-type', `expected ${what}, without decimals or exponent`]
    : null;
}

/** Of an integer's text: a longer one is outside of any range, and takes BigInt seconds to read. */
const longestInteger = 20;

function outside(number: string, bits: number): Problem | null {
  if (number.length > longestInteger) {
    return ['out-of-range', `the integer has more than ${String(bits)} bits`];
  }
  const integer = BigInt(number);
  return BigInt.asIntN(bits, integer) === integer
    ? null
    : ['out-of-range', `the integer has more than ${String(bits)} bits`];
}

function kindOf(value: Parsed): string {
  if (value === null || value === undefined) {
    return 'null';
  }
  if (Array.isArray(value)) {
    return 'an array';
  }
  if (value instanceof JsonNumber) {
    return 'a number';
  }
  return { string: 'a string', boolean: 'a boolean', object: 'an object' }[
    typeof value as 'string' | 'boolean' | 'object'
  ];
}
