/**
 * What a user's definition says, checked and with every default filled in. The loader makes it from
 * `anabranch.yaml`; everything else only reads it. Durations are milliseconds, sizes bytes.
 */
export interface Definition {
  /** Path of the file, as errors should name it. */
  readonly file: string;
  /** Schema of the views that users query. */
  readonly schema: string;
  readonly sources: readonly Source[];
  readonly tables: readonly Table[];
}

export type Branch = 'stream' | 'batch';

export interface Source {
  readonly name: string;
  readonly topic: string;
  readonly format: 'json';
  /** The fields of the Avro record schema, in its order. */
  readonly fields: readonly Field[];
  /** Name of the field that holds the event time: a timestamp that is never null. */
  readonly eventTime: string;
  /** How far behind the largest event time seen a record may be without being late. */
  readonly disorder: number;
  /** How far in front of the clock an event time may push the watermark. */
  readonly maxSkew: number;
  /** After this long without a record, a partition's watermark follows the clock; null: never. */
  readonly idleTimeout: number | null;
  /** A record longer than this becomes a dead letter. */
  readonly maxRecordBytes: number;
  /** In order; the first rule that holds decides. */
  readonly split: readonly SplitRule[];
  /** Branch of a record that no rule matches. */
  readonly defaultBranch: Branch;
  readonly batch: BatchCadence;
  /** Changes when anything changes that decides what a record means or where it goes. */
  readonly hash: string;
}

export interface SplitRule {
  /** Unique within the source; what the ledger and the metrics call it. */
  readonly name: string;
  readonly when: Expression;
  readonly to: Branch;
  /** Holds only while the stream is predicted to miss its latency goal. */
  readonly divert: boolean;
}

/** When the batch-processor starts a run: at whichever comes first. */
export interface BatchCadence {
  readonly every: number | null;
  /** Five or six fields, UTC. */
  readonly cron: string | null;
  readonly backlogBytes: number | null;
  /** A run ends, as predicted, before a record has waited for longer than this. */
  readonly freshWithin: number | null;
}

export interface Field {
  readonly name: string;
  readonly type: FieldType;
  readonly nullable: boolean;
  /** SQL literal of the Avro default where the schema gives one that isn't null. */
  readonly defaultSql: string | null;
}

export type FieldType =
  | { readonly kind: 'boolean' | 'int' | 'long' | 'float' | 'double' | 'string' | 'uuid' }
  | { readonly kind: 'date' | 'timestamp-millis' | 'timestamp-micros' }
  | { readonly kind: 'decimal'; readonly precision: number; readonly scale: number }
  | { readonly kind: 'enum'; readonly symbols: readonly string[] };

/** SQL of the user's, and where it stands in the file. */
export interface Expression {
  readonly sql: string;
  readonly at: Position;
}

/** One-based, as editors count. */
export interface Position {
  readonly file: string;
  readonly line: number;
  readonly column: number;
}

export interface Column {
  readonly name: string;
  readonly expression: Expression;
}

interface TableBase {
  readonly name: string;
  readonly at: Position;
  readonly description: string | null;
  readonly source: string;
  /** How long a record may take over the stream branch, from its arrival to its row; null: no goal. */
  readonly latency: number | null;
  /** Names of fields: a record with a null in one of them is filtered out. */
  readonly dropNulls: readonly string[];
  readonly where: Expression | null;
  /** In the order of the file. A column's expression may use fields and earlier columns. */
  readonly columns: readonly Column[];
  /** Changes when anything changes that decides the rows. */
  readonly hash: string;
}

/** A row per record, identified by the record's coordinates. */
export interface AppendTable extends TableBase {
  readonly kind: 'append';
}

/** The newest row per key, by (event time, partition, offset). */
export interface UpsertTable extends TableBase {
  readonly kind: 'upsert';
  readonly key: readonly string[];
}

/** A row per tumbling window and group. */
export interface WindowTable extends TableBase {
  readonly kind: 'window';
  readonly window: { readonly size: number; readonly grace: number };
  /** Names of columns or fields. */
  readonly groupBy: readonly string[];
  readonly aggregates: readonly Aggregate[];
}

export type Table = AppendTable | UpsertTable | WindowTable;

export type AggregateFunction =
  | 'count'
  | 'sum'
  | 'min'
  | 'max'
  | 'avg'
  | 'var_samp'
  | 'var_pop'
  | 'variance'
  | 'stddev_samp'
  | 'stddev_pop'
  | 'stddev'
  | 'bool_and'
  | 'bool_or'
  | 'first'
  | 'last'
  | 'approx_count_distinct'
  | 'approx_quantile'
  | 'approx_median'
  | 'histogram';

export interface Aggregate {
  readonly name: string;
  readonly function: AggregateFunction;
  /** null: `count(*)`. */
  readonly argument: Expression | null;
  /**
   * Decimal literals: the rank of `approx_quantile`, from 0 to 1; the bounds of `histogram`, ascending;
   * else none.
   */
  readonly parameters: readonly string[];
}
