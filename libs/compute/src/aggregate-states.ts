import type { StateColumn } from './plan.ts';
import type { StorableType } from './storable-types.ts';

/** What an aggregate keeps per group, and what it says in the end. */
export interface AggregateStates {
  /**
   * Columns that the records need for `states`, each made of those before it. (An expression that has
   * a part twice would compute it twice.)
   */
  readonly prepared?: readonly PreparedColumn[];
  readonly states: readonly AggregateState[];
  readonly postgresType: string;
  /** Postgres SQL over the merged states under the alias `s`. */
  readonly result: string;
  /** What a reader of the column must know beside its expression. */
  readonly remark?: string;
}

export interface PreparedColumn {
  readonly name: string;
  readonly sql: string;
}

export interface AggregateState {
  readonly column: StateColumn;
  /** DuckDB SQL that makes it from the records of a group. */
  readonly sql: string;
  /** What makes the stored value of it, once per group, each of what the one before it made. */
  readonly finish?: readonly ((value: string) => string)[];
}

export interface AggregateArgument {
  /** Name of a column with the argument's values. */
  readonly column: string;
  readonly type: StorableType;
}

/** @returns a state column of the aggregate; suffixes have no underscore, so that no two names meet */
export type MakeState = (
  suffix: string,
  postgresType: string,
  merge: NonNullable<StateColumn['merge']>,
  sql: string,
  finish?: AggregateState['finish'],
) => AggregateState;
