import type { Aggregate } from '@anabranch/definition';
import { DuckDBTypeId } from '@duckdb/node-api';
import type { StateColumn } from './plan.ts';
import { quoteName } from './quoting.ts';
import { isFloat, isInteger, type StorableType, withoutNegativeZero } from './storable-types.ts';

/** What an aggregate keeps per group, and what it says in the end. */
export interface AggregateStates {
  readonly states: readonly {
    readonly column: StateColumn;
    /** DuckDB SQL that makes it from the records of a group. */
    readonly sql: string;
  }[];
  readonly postgresType: string;
  /** Postgres SQL over the merged states under the alias `s`. */
  readonly result: string;
}

/** Digits that a sum of decimals may grow by: 10^10 records of a partial. */
const widestSummand = 28;

/**
 * @param argument a column with the argument's values; null: `count(*)`
 * @returns a message if the states of two partials couldn't be merged into exactly what one would have
 */
export function aggregateStates(
  { name, function: by }: Aggregate,
  argument: { readonly sql: string; readonly type: StorableType } | null,
): AggregateStates | { readonly problem: string } {
  const state = (
    suffix: string,
    postgresType: string,
    merge: NonNullable<StateColumn['merge']>,
    sql: string,
  ): AggregateStates['states'][number] => ({
    column: { name: `_${name}_${suffix}`, postgresType, role: 'state', merge },
    sql,
  });
  const final = (suffix: string): string => `s.${quoteName(`_${name}_${suffix}`)}`;

  if (argument === null || by === 'count') {
    return {
      states: [state('count', 'bigint', 'sum', `count(${argument?.sql ?? '*'})`)],
      postgresType: 'bigint',
      result: final('count'),
    };
  }
  const { sql, type } = argument;
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
  }
}

function unsummable(by: 'sum' | 'avg', { type }: StorableType): string | null {
  if (isInteger(type)) {
    return null;
  }
  if (isFloat(type)) {
    return `${by} of ${type.toString()} depends on the order in which records are added, so the split would change it: cast to a decimal first, as in ${by}(CAST(… AS decimal(18,6)))`;
  }
  if (type.typeId === DuckDBTypeId.HUGEINT) {
    return `${by} of HUGEINT could overflow: cast to bigint or decimal(28,0) first`;
  }
  if (type.typeId !== DuckDBTypeId.DECIMAL) {
    return `${by} needs numbers, not ${type.toString()}`;
  }
  const { width, scale } = type;
  return width <= widestSummand
    ? null
    : `${by} of ${type.toString()} could overflow: cast to at most ${String(widestSummand)} digits first, as in ${by}(CAST(… AS decimal(${String(widestSummand)},${String(Math.min(scale, 10))})))`;
}
