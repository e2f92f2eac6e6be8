import type { AggregateArgument, AggregateStates, MakeState } from './aggregate-states.ts';
import { quoteName } from './quoting.ts';
import { withoutNegativeZero } from './storable-types.ts';

/*
 * HyperLogLog (Flajolet et al. 2007) with 4,096 registers, so a standard error of 1.04 / √4096 = 1.6 %.
 * 12 bits of a value's hash choose the register, which keeps the greatest rank of its values: the number
 * of the lowest bit that is set in the other 52, from 1.
 *
 * The state is a `bit varying`, and it follows from the registers alone, whichever way they came together:
 * - up to 128 registers that aren't 0: 20 bits for each, 12 with its number and 8 with its rank, in order;
 * - more: six planes of 4,096 bits, the first with the lowest bit of each register. So Postgres merges all
 *   registers at once, with some `&` and `|` (migrations/004-sketches.ts), 3 KiB of them.
 * As text for COPY these are at most 640 and 6,144 hexadecimal digits.
 *
 * The hash is the first eight bytes of the MD5 of the value's text, the lowest first. DuckDB's own hash() is three times as fast, but may change
 * with its version; then a value would count twice.
 */
const registers = 4096;
const registerBits = 12;
const rankBits = 51;
const planes = [0, 1, 2, 3, 4, 5];
const mostEntries = 128;

export function distinctStates(
  { column, type }: AggregateArgument,
  state: MakeState,
  final: (suffix: string) => string,
): AggregateStates {
  const prepared = (suffix: string, sql: string): { name: string; sql: string } => ({
    name: `${column} ${suffix}`,
    sql,
  });
  const text = `${withoutNegativeZero(type.type, quoteName(column))}::VARCHAR`;
  const hash = prepared(
    'hash',
    `(md5_number(${text}) & ${String(2n ** 64n - 1n)}::UHUGEINT)::UBIGINT`,
  );
  // The highest bit is set, so that there is a lowest one.
  const rest = prepared(
    'rest',
    `(((${quoteName(hash.name)} >> ${String(registerBits)}) & ${String(2n ** BigInt(rankBits) - 1n)}) | ${String(2n ** BigInt(rankBits))})::BIGINT`,
  );
  const bits = quoteName(rest.name);
  const observed = prepared(
    'rank',
    `((${quoteName(hash.name)} & ${String(registers - 1)})::INTEGER * 64 + bit_count(xor(${bits}, ${bits} - 1)))::INTEGER`,
  );
  return {
    prepared: [hash, rest, observed],
    states: [
      state(
        'registers',
        'bit varying',
        'registers',
        // A quarter of what histogram() or a second GROUP BY takes.
        `list_sort(list(DISTINCT ${quoteName(observed.name)}) FILTER (${quoteName(observed.name)} IS NOT NULL))`,
        [greatestOfEach, stateText],
      ),
    ],
    postgresType: 'bigint',
    result: `coalesce(anabranch.distinct_values(${final('registers')}), 0)`,
    remark: 'HyperLogLog: the standard error is 1.6 %',
  };
}

/** Of ranks in order, with 64 times their register: the last one of each register. */
function greatestOfEach(ranks: string): string {
  return `list_transform(
    list_filter(list_zip(${ranks}, ${ranks}[2:]), lambda pair: pair[2] IS NULL OR pair[2] >> 6 <> pair[1] >> 6),
    lambda pair: pair[1])`;
}

function stateText(entries: string): string {
  const positions = planes.map(
    (plane) =>
      `list_transform(list_filter(${entries}, lambda v: (v >> ${String(plane)}) & 1 = 1), lambda v: ${String(plane * registers)} + (v >> 6))`,
  );
  return `'x' || CASE WHEN len(${entries}) BETWEEN 1 AND ${String(mostEntries)}
    THEN array_to_string(list_transform(${entries}, lambda v: printf('%05x', (v >> 6) * 256 + (v & 63))), '')
    WHEN len(${entries}) > 0 THEN hex(list_aggregate(list_concat(${positions.join(', ')}), 'bitstring_agg', 0, ${String(planes.length * registers - 1)})::BLOB) END`;
}
