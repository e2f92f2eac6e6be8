import type { Definition, Field, Source, Table } from '@anabranch/definition';
import type { ClassifyVariant } from './classify-sql.ts';

/** What a checked definition becomes: SQL for DuckDB, and what Postgres must know of its results. */
export interface Plan {
  readonly definition: Definition;
  /** By name, in the order of the definition. */
  readonly sources: ReadonlyMap<string, SourcePlan>;
  readonly tables: ReadonlyMap<string, TablePlan>;
}

export interface SourcePlan {
  readonly source: Source;
  /** A split rule looks at the running watermark. */
  readonly usesLateBy: boolean;
  /** A split rule looks at Kafka's timestamps: blocks must bring them. */
  readonly usesTimestamps: boolean;
  /** A split rule looks at the records' sizes. */
  readonly usesBytes: boolean;
  /** Kafka headers that split rules look at: blocks must bring them. */
  readonly headerNames: readonly string[];
  /** Decodes, validates and splits blocks of records; see `classify-sql.ts`. */
  readonly classifySql: (variant: ClassifyVariant) => string;
  /** Parses blocks into typed columns; see `record-columns.ts`. */
  readonly parseSql: string;
  /** The same for Parquet: with the records' text where a table may have to make a dead letter of it. */
  readonly spoolSql: string;
  /** The fields that some table uses; the others aren't parsed by the processors. */
  readonly fields: readonly Field[];
  readonly tables: readonly TablePlan[];
}

export interface TablePlan {
  readonly table: Table;
  /** The columns of a partial's rows, in the order of its COPY text. */
  readonly columns: readonly StateColumn[];
  /** The user's columns, in the order of the definition. */
  readonly results: readonly ResultColumn[];
  readonly sql: TableSql;
  /** Whether an expression can fail on a record (a cast, an overflow). */
  readonly canFail: boolean;
}

/**
 * SQL over a relation of the source's records (`"#partition"`, `"#offset"`, `"#time"` in
 * microseconds, and the used fields), named or bracketed.
 */
export interface TableSql {
  /** Per partition: records read, and records that pass `drop_nulls` and `where`. */
  readonly count: (records: string) => string;
  /** The rows of all partitions, with `"#partition"`, `"#rows"` and the state columns. */
  readonly rows: (records: string) => string;
  /** A row's CSV line from the columns of `rows`; parameters `$stream`, `$batch`: 1 and 0, or 0 and 1. */
  readonly line: string;
  /** Where an expression may fail, in the order in which they are computed. */
  readonly stages: readonly Stage[];
}

/** Expressions over what the stages before them made of the records. */
export interface Stage {
  /** The relation that the expressions are computed over. */
  readonly input: (records: string) => string;
  readonly expressions: readonly { readonly name: string; readonly sql: string }[];
}

/** A column of the partial's rows; Postgres's staging and state tables have the same. */
export interface StateColumn {
  readonly name: string;
  readonly postgresType: string;
  readonly role:
    | 'partition'
    | 'offset'
    | 'event_time'
    | 'window_start'
    | 'key'
    | 'value'
    | 'state'
    | 'stream_records'
    | 'batch_records';
  /**
   * How two rows' values of the same key become one; null: they don't. NULL gives way to a value.
   * `registers`: of HyperLogLog, see `distinct-sketch.ts`.
   */
  readonly merge: 'sum' | 'least' | 'greatest' | 'and' | 'or' | 'registers' | null;
}

/** A column of the user's view. */
export interface ResultColumn {
  readonly name: string;
  readonly postgresType: string;
  /** Postgres SQL over the state columns of the state table under the alias `s`. */
  readonly sql: string;
  readonly comment: string;
}
