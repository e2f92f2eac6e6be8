import type { Aggregate, AggregateFunction } from '@anabranch/definition';
import { DuckDBTypeId } from '@duckdb/node-api';
import type { AggregateArgument, AggregateStates, MakeState } from './aggregate-states.ts';
import { distinctStates } from './distinct-sketch.ts';
import { quantileStates } from './quantile-sketch.ts';
import { quoteName } from './quoting.ts';
import { isFloat, isInteger, type StorableType, withoutNegativeZero } from './storable-types.ts';

/** Digits that a sum of decimals may grow by: 10^10 records of a partial. */
const widestSummand = 28;
/** The unscaled values of decimals of so many digits are integers of 64 bits. */
const widestSquared = 18;
/** Squares of integers of so many digits leave room for 10^10 records in 128 bits. */
const widestSquare = 14;
/** Digits that DuckDB's decimals have at the most. */
const widestDecimal = 38;
/** Where longer ones are cut in two. */
const half = 10n ** 10n;

const shared: Partial<Record<AggregateFunction, string>> = {
  var_samp: 'variance',
  var_pop: 'variance',
  variance: 'variance',
  stddev_samp: 'variance',
  stddev_pop: 'variance',
  stddev: 'variance',
  approx_quantile: 'quantile',
  approx_median: 'quantile',
};

/** Aggregates of the same argument for which this is the same have the same states; null: none has. */
export function sharedStates(by: AggregateFunction): string | null {
  return shared[by] ?? null;
}

/**
 * @param argument null: `count(*)`
 * @returns a message if the states of two partials couldn't be merged into exactly what one would have
 */
export function aggregateStates(
  { name, function: by, parameters }: Pick<Aggregate, 'name' | 'function' | 'parameters'>,
  argument: AggregateArgument | null,
): AggregateStates | { readonly problem: string } {
  const state: MakeState = (suffix, postgresType, merge, sql, finish = []) => ({
    column: { name: `_${name}_${suffix}`, postgresType, role: 'state', merge },
    sql,
    finish,
  });
  const final = (suffix: string): string => `s.${quoteName(`_${name}_${suffix}`)}`;

  if (argument === null || by === 'count') {
    const counted = argument === null ? '*' : quoteName(argument.column);
    return {
      states: [state('count', 'bigint', 'sum', `count(${counted})`)],
      postgresType: 'bigint',
      result: final('count'),
    };
  }
  const { type } = argument;
  const sql = quoteName(argument.column);
  switch (by) {
    case 'sum':
    case 'avg': {
      const problem = unsummable(by, type);
      if (problem !== null) {
        return { problem };
      }
      const sum = state('sum', 'numeric', 'sum', `sum(${sql})`);
      return by === 'sum'
        ? { states: [sum], postgresType: 'numeric', result: final('sum') }
        : {
            states: [sum, state('count', 'bigint', 'sum', `count(${sql})`)],
            postgresType: 'numeric',
            result: `${final('sum')} / nullif(${final('count')}, 0)`,
          };
    }
    case 'min':
    case 'max': {
      // Postgres before 18 has no min() of these, and few would look for one.
      if (type.type.typeId === DuckDBTypeId.BOOLEAN || type.type.typeId === DuckDBTypeId.UUID) {
        return {
          problem: `${by} of ${type.type.toString()} isn't possible: cast it to integer or varchar`,
        };
      }
      return {
        states: [
          state(
            by,
            type.postgresType,
            by === 'min' ? 'least' : 'greatest',
            `${by}(${withoutNegativeZero(type.type, sql)})`,
          ),
        ],
        postgresType: type.postgresType,
        result: final(by),
      };
    }
    case 'var_samp':
    case 'var_pop':
    case 'variance':
    case 'stddev_samp':
    case 'stddev_pop':
    case 'stddev': {
      const problem = unsquarable(by, type);
      return problem === null ? varianceStates(by, argument, state, final) : { problem };
    }
    case 'bool_and':
    case 'bool_or':
      return type.type.typeId === DuckDBTypeId.BOOLEAN
        ? {
            states: [state('bool', 'boolean', by === 'bool_and' ? 'and' : 'or', `${by}(${sql})`)],
            postgresType: 'boolean',
            result: final('bool'),
          }
        : { problem: `${by} needs a condition, not ${type.type.toString()}: as in ${by}(x > 0)` };
    case 'first':
    case 'last':
      return placedStates(by, argument, state, final);
    case 'approx_count_distinct':
      return distinctStates(argument, state, final);
    case 'approx_quantile':
    case 'approx_median':
      return quantileStates(
        by,
        argument,
        by === 'approx_median' ? '0.5' : (parameters[0] ?? ''),
        state,
        final,
      );
    case 'histogram':
      return histogramStates(argument, parameters, state, final);
  }
}

function unsummable(by: AggregateFunction, { type }: StorableType): string | null {
  if (isInteger(type)) {
    return null;
  }
  if (isFloat(type)) {
    return `${by} of ${type.toString()} depends on the order in which records are added, so the split would change it: cast to a decimal first, as in ${by}(CAST(… AS decimal(18,6)))`;
  }
  if (type.typeId === DuckDBTypeId.HUGEINT) {
    return `${by} of HUGEINT could overflow: cast to bigint or decimal(28,0) first`;
  }
  return tooWide(by, type, widestSummand);
}

function unsquarable(by: AggregateFunction, storable: StorableType): string | null {
  const { type } = storable;
  if (type.typeId === DuckDBTypeId.HUGEINT) {
    return `${by} of HUGEINT could overflow: cast to bigint first`;
  }
  return isInteger(type) || isFloat(type)
    ? unsummable(by, storable)
    : tooWide(by, type, widestSquared);
}

function tooWide(by: AggregateFunction, type: StorableType['type'], widest: number): string | null {
  if (type.typeId !== DuckDBTypeId.DECIMAL) {
    return `${by} needs numbers, not ${type.toString()}`;
  }
  const { width, scale } = type;
  return width <= widest
    ? null
    : `${by} of ${type.toString()} could overflow: cast to at most ${String(widest)} digits first, as in ${by}(CAST(… AS decimal(${String(widest)},${String(Math.min(scale, 10))})))`;
}

/** Digits of the longest value; of a decimal without its point. */
function digitsOf({ type }: StorableType): number {
  const digits: Partial<Record<DuckDBTypeId, number>> = {
    [DuckDBTypeId.TINYINT]: 3,
    [DuckDBTypeId.UTINYINT]: 3,
    [DuckDBTypeId.SMALLINT]: 5,
    [DuckDBTypeId.USMALLINT]: 5,
    [DuckDBTypeId.INTEGER]: 10,
    [DuckDBTypeId.UINTEGER]: 10,
    [DuckDBTypeId.BIGINT]: 19,
  };
  return type.typeId === DuckDBTypeId.DECIMAL ? type.width : (digits[type.typeId] ?? 20);
}

/**
 * Number, sum and sum of squares, all exact: of the unscaled values, and where the squares could pass 128
 * bits as v = 10^10 · a + b, of whose products v² is made again in Postgres.
 */
function varianceStates(
  by: AggregateFunction,
  { column, type }: AggregateArgument,
  state: MakeState,
  final: (suffix: string) => string,
): AggregateStates {
  const value = quoteName(column);
  const scale = type.type.typeId === DuckDBTypeId.DECIMAL ? type.type.scale : 0;
  const unscaled = { name: `${column} unscaled`, sql: unscaledInteger(value, type) };
  const v = quoteName(unscaled.name);
  const parts = {
    high: { name: `${column} high`, sql: `${v} // ${String(half)}` },
    low: { name: `${column} low`, sql: `${v} % ${String(half)}` },
  };
  const [a, b] = [quoteName(parts.high.name), quoteName(parts.low.name)];
  const isShort = digitsOf(type) <= widestSquare;
  const squares = isShort
    ? final('squares')
    : `(${final('high')} * 1e20 + ${final('cross')} * 2e10 + ${final('low')})`;
  const n = `${final('count')}::numeric`;
  const numerator = `(${n} * ${squares} * 1e-${String(2 * scale)} - ${final('sum')} * ${final('sum')})`;
  const isPopulation = by === 'var_pop' || by === 'stddev_pop';
  const variance = `${numerator} / nullif(${n} * ${isPopulation ? n : `(${n} - 1)`}, 0)`;
  return {
    prepared: [unscaled, ...(isShort ? [] : [parts.high, parts.low])],
    states: [
      state('count', 'bigint', 'sum', `count(${value})`),
      state('sum', 'numeric', 'sum', `sum(${value})`),
      ...(isShort
        ? [state('squares', 'numeric', 'sum', `sum(${v} * ${v}::HUGEINT)`)]
        : [
            state('high', 'numeric', 'sum', `sum(${a} * ${a}::HUGEINT)`),
            state('cross', 'numeric', 'sum', `sum(${a} * ${b}::HUGEINT)`),
            state('low', 'numeric', 'sum', `sum(${b} * ${b}::HUGEINT)`),
          ]),
    ],
    postgresType: 'numeric',
    result: by.startsWith('stddev') ? `sqrt(${variance})` : variance,
  };
}

/** As BIGINT where it fits: HUGEINT divides ten times as slowly. */
function unscaledInteger(value: string, { type }: StorableType): string {
  if (type.typeId !== DuckDBTypeId.DECIMAL) {
    return `${value}::${type.typeId === DuckDBTypeId.UBIGINT ? 'HUGEINT' : 'BIGINT'}`;
  }
  const { width, scale } = type;
  const wide = width + scale <= widestSquared ? widestSquared : widestDecimal;
  return `(${value}::DECIMAL(${String(wide)},${String(scale)}) * ${String(10n ** BigInt(scale))}::DECIMAL(${String(scale + 1)},0))::BIGINT`;
}

/** From the begin of the year 1, the first that an event time can have, to 1970. */
const microsecondsBefore1970 = 62_135_596_800_000_000n;
const offsets = 2n ** 63n;
/** Digits of time, partition and offset. */
const placeWidths = [18, 10, 19] as const;

/**
 * The value's text behind its record's time, partition and offset, in as many digits each as the longest
 * have: the least and the greatest of these texts are those of the first and the last record.
 */
function placedStates(
  by: 'first' | 'last',
  { column, type }: AggregateArgument,
  state: MakeState,
  final: (suffix: string) => string,
): AggregateStates {
  const value = quoteName(column);
  // Half as long with one number as with a struct of two.
  const place = {
    name: `${column} place`,
    sql: `CASE WHEN ${value} IS NOT NULL THEN ("#time" + ${String(microsecondsBefore1970)})::HUGEINT * ${String(offsets)} + "#offset" END`,
  };
  const at = quoteName(place.name);
  const extreme = by === 'first' ? 'min' : 'max';
  const [timeWidth, partitionWidth, offsetWidth] = placeWidths;
  const digits = (sql: string, width: number): string =>
    `lpad((${sql})::VARCHAR, ${String(width)}, '0')`;
  const width = placeWidths.reduce((sum, one) => sum + one, 0);
  return {
    prepared: [place],
    states: [
      state(
        by,
        'text',
        by === 'first' ? 'least' : 'greatest',
        `struct_pack(at := ${extreme}(${at}), v := arg_${extreme}(${value}, ${at}))`,
        [
          (found) =>
            `${digits(`${found}.at // ${String(offsets)}`, timeWidth)} || ${digits('"#partition"', partitionWidth)} || ${digits(`${found}.at % ${String(offsets)}`, offsetWidth)} || ${found}.v::VARCHAR`,
        ],
      ),
    ],
    postgresType: type.postgresType,
    result: `substr(${final(by)}, ${String(width + 1)})::${type.postgresType}`,
    remark: `by event time, then partition and offset; nulls don't count`,
  };
}

/** A count per bucket: below the first bound, from each bound to the next, from the last one on. */
function histogramStates(
  { column, type }: AggregateArgument,
  bounds: readonly string[],
  state: MakeState,
  final: (suffix: string) => string,
): AggregateStates | { readonly problem: string } {
  const value = quoteName(column);
  const isDouble = isFloat(type.type);
  if (!isDouble && !isInteger(type.type) && type.type.typeId !== DuckDBTypeId.DECIMAL) {
    return { problem: `histogram needs numbers, not ${type.type.toString()}` };
  }
  if (!isDouble && comparedDigits(type, bounds) > widestDecimal) {
    return {
      problem: `${type.type.toString()} can't be compared exactly with all of the bounds: cast it to fewer digits first`,
    };
  }
  const literal = (bound: string): string => (isDouble ? `${bound}::DOUBLE` : bound);
  const compared = isDouble ? `${value}::DOUBLE` : value;
  const suffixes = Array.from({ length: bounds.length + 1 }, (_, i) => `bucket${String(i)}`);
  return {
    states: suffixes.map((suffix, i) => {
      const [from, to] = [bounds[i - 1], bounds[i]];
      const within = [
        ...(from === undefined ? [] : [`${compared} >= ${literal(from)}`]),
        ...(to === undefined ? [] : [`${compared} < ${literal(to)}`]),
      ];
      return state(suffix, 'bigint', 'sum', `count(*) FILTER (${within.join(' AND ')})`);
    }),
    postgresType: 'bigint[]',
    result: `ARRAY[${suffixes.map(final).join(', ')}]`,
    remark: `how many are below ${bounds[0] ?? ''}, from each bound up to below the next, and from ${bounds.at(-1) ?? ''} on`,
  };
}

function comparedDigits(type: StorableType, bounds: readonly string[]): number {
  const own = type.type.typeId === DuckDBTypeId.DECIMAL ? type.type.scale : 0;
  const parts = bounds.map((bound) => bound.replace('-', '').split('.'));
  const whole = Math.max(digitsOf(type) - own, ...parts.map(([before = '']) => before.length));
  return whole + Math.max(own, ...parts.map(([, after = '']) => after.length));
}
