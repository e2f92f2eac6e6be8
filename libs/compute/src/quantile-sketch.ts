import { DuckDBTypeId } from '@duckdb/node-api';
import type { AggregateArgument, AggregateStates, MakeState } from './aggregate-states.ts';
import { quoteName } from './quoting.ts';
import { isFloat, isInteger } from './storable-types.ts';

/*
 * Counts of the values by their size, in the manner of DDSketch (Masson et al. 2019): 50 buckets of equal
 * width for each power of two. A bucket [l, u) stands for 2lu / (l + u), which is off by at most
 * (u - l) / (u + l), 1/101 in the widest. Logarithmic buckets would be a third fewer; but a logarithm is rounded
 * as the platform's library does it, and two processors could take a value for different buckets. Here every
 * step is exact, or rounded as IEEE 754 says. (If log2 is off beside a power of two, the same bucket comes
 * out: the last of one power is the one in front of the first of the next.)
 *
 * The buckets are numbered from 2^-30 (below that in size is zero) to 2^63 (from there on is infinite): 4,651 a
 * side. A side's counts are one number, with twelve digits for each bucket: sketches are merged by plain
 * `+` and sum() of Postgres. As text it has twelve digits for each bucket from the smallest to the largest
 * value, so 6 KB where they are a thousand times apart, and never more than 56 KB; stored, half of that at most.
 */
const perPower = 50;
const smallestPower = 30;
const powers = 93;
const digits = 12;

export function quantileStates(
  by: string,
  { column, type: { type } }: AggregateArgument,
  q: string,
  state: MakeState,
  final: (suffix: string) => string,
): AggregateStates | { readonly problem: string } {
  const isNumber =
    isInteger(type) ||
    isFloat(type) ||
    type.typeId === DuckDBTypeId.DECIMAL ||
    type.typeId === DuckDBTypeId.HUGEINT;
  if (!isNumber) {
    return { problem: `${by} needs numbers, not ${type.toString()}` };
  }
  const value = quoteName(column);
  const size = {
    name: `${column} size`,
    sql: `abs(${value}::DOUBLE) * ${String(2 ** smallestPower)}::DOUBLE`,
  };
  const y = quoteName(size.name);
  // NaN is the greatest of all for DuckDB.
  const power = {
    name: `${column} power`,
    sql: `CASE WHEN ${y} >= 1 AND ${y} < ${String(2n ** BigInt(powers))}::DOUBLE THEN floor(log2(${y})) END`,
  };
  const e = quoteName(power.name);
  const side = `CASE WHEN ${value} < 0 THEN -1 ELSE 1 END`;
  const bucket = {
    name: `${column} bucket`,
    sql: `CASE WHEN ${y} < 1 THEN 0
      WHEN ${e} IS NOT NULL THEN ${side} * (1 + (${e} * ${String(perPower)} + floor((${y} / pow(2::DOUBLE, ${e}) - 1) * ${String(perPower)}))::INTEGER)
      WHEN ${y} IS NOT NULL THEN ${side} * ${String(powers * perPower + 1)} END`,
  };
  const b = quoteName(bucket.name);
  const counts = (sign: '' | '-', condition: string): string =>
    `histogram(CASE WHEN ${condition} THEN ${sign}${b} END)`;
  return {
    prepared: [size, power, bucket],
    states: [
      state('count', 'bigint', 'sum', `count(${b})`),
      state('below', 'bigint', 'sum', `count(*) FILTER (${b} < 0)`),
      state('zeros', 'bigint', 'sum', `count(*) FILTER (${b} = 0)`),
      state('negative', 'numeric', 'sum', counts('-', `${b} < 0`), [packed]),
      state('positive', 'numeric', 'sum', counts('', `${b} > 0`), [packed]),
    ],
    postgresType: 'double precision',
    result: `anabranch.quantile_value(${[q, ...['count', 'below', 'zeros', 'negative', 'positive'].map(final)].join(', ')})`,
    remark: `at most 1 % off the value at that rank; less than 9.3e-10 in size is 0, from 9.2e18 on Infinity`,
  };
}

/** Largest first. (Not of `map_entries`: of a struct that is NULL, DuckDB 1.5 gives another one's values.) */
function packed(counts: string): string {
  const keys = `list_reverse(map_keys(${counts}))`;
  return `array_to_string(list_transform(list_zip(${keys}, list_reverse(map_values(${counts})), ${keys}[2:]), lambda bucket:
      lpad(bucket[2]::VARCHAR, ${String(digits)}, '0')
      || repeat('0', ${String(digits)} * coalesce(bucket[1] - bucket[3] - 1, 0)::BIGINT)), '')
    || 'e' || (${String(digits)} * (map_keys(${counts})[1] - 1))::VARCHAR`;
}
