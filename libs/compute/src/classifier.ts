import type { Field } from '@anabranch/definition';
import type { DuckDBListVector, DuckDBPreparedStatement } from '@duckdb/node-api';
import { type ClassifyVariant, verdictRange } from './classify-sql.ts';
import { Engine, type EngineOptions, execute, failure, type Parameters } from './engine.ts';
import { ComputeError } from './errors.ts';
import { concatLines } from './lines.ts';
import type { SourcePlan } from './plan.ts';
import { type Reason, refusalReason } from './refusal-reasons.ts';

/** Adjacent records of one source partition. */
export interface RecordBlock {
  readonly partition: number;
  /**
   * `count` lines of valid UTF-8, each with a line feed behind it. Line feeds within a value have
   * been replaced by carriage returns, a byte order mark has been taken off.
   */
  readonly text: Buffer;
  readonly count: number;
  /** Largest event time seen in front of the block, clamped; microseconds since 1970. */
  readonly highest: bigint | null;
  /** Kafka's, per record, in milliseconds since 1970; needed where the plan uses them. */
  readonly timestamps: Float64Array | null;
  /** Per header that the plan names, per record; null where no record has one of them. */
  readonly headers: ReadonlyMap<string, readonly (string | null)[]> | null;
  /** Bytes of each record where `bytes` should be other than the line's length. */
  readonly sizes?: Uint32Array | null;
  /** Whether the rules that divert hold for these records. */
  readonly diverting?: boolean;
}

export interface Classified {
  readonly partition: number;
  /** After the block; microseconds since 1970, at most the ceiling unless it was higher before. */
  readonly highest: bigint | null;
  /** Records per split rule; the last number counts those that none of them took. */
  readonly rules: readonly number[];
  readonly dead: number;
  /** The records that don't go to the source's default branch, or are dead. */
  readonly exceptions: {
    /** Zero-based, ascending. */
    readonly positions: Uint32Array;
    /** At least 0: index of the rule that chose; below 0: dead, for `reasons[-1 - verdict]`. */
    readonly verdicts: Int16Array;
  };
  /** Each once: there are no more than some per field. */
  readonly reasons: readonly Reason[];
}

/** Strings are looked into for NUL characters only where the text has an escape of one. */
const escapedNul = Buffer.from('\\u0000');

/** Decodes, validates and splits the records of one source. */
export class Classifier {
  readonly #plan: SourcePlan;
  readonly #engine: Engine;
  /** By variant; most steps need but one. */
  readonly #statements = new Map<string, DuckDBPreparedStatement>();
  #busy = false;

  private constructor(plan: SourcePlan, engine: Engine) {
    this.#plan = plan;
    this.#engine = engine;
  }

  /** @throws ComputeError `ENGINE` */
  static async open(plan: SourcePlan, options: EngineOptions): Promise<Classifier> {
    const engine = await Engine.open(options);
    try {
      const classifier = new Classifier(plan, engine);
      await classifier.#statement({ guarded: false, nul: false });
      return classifier;
    } catch (error) {
      engine.close();
      throw failure(error);
    }
  }

  /**
   * @param blocks at most one of each partition
   * @param ceiling largest event time that may raise the watermark; microseconds since 1970
   * @returns a result for each block, in their order
   * @throws ComputeError `BLOCK_MISMATCH`, `BUSY`, `OUT_OF_MEMORY`, `QUERY_FAILED`
   */
  async classify(blocks: readonly RecordBlock[], ceiling: bigint): Promise<Classified[]> {
    if (this.#busy) {
      throw new ComputeError(
        'BUSY',
        'A classifier takes one step at a time: await the former one.',
      );
    }
    const filled = blocks.filter(({ count }) => count > 0);
    if (filled.length === 0) {
      return blocks.map((block) => this.#empty(block));
    }
    this.#busy = true;
    try {
      const results = await this.#query(filled, ceiling);
      return blocks.map((block) => results.get(block) ?? this.#empty(block));
    } catch (error) {
      throw failure(error);
    } finally {
      this.#busy = false;
    }
  }

  close(): void {
    for (const statement of this.#statements.values()) {
      statement.destroySync();
    }
    this.#engine.close();
  }

  async #query(
    blocks: readonly RecordBlock[],
    ceiling: bigint,
  ): Promise<Map<RecordBlock, Classified>> {
    const parameters = this.#parameters(blocks, ceiling);
    const nul = parameters.text.includes(escapedNul);
    let result;
    try {
      result = await execute(await this.#statement({ guarded: false, nul }), parameters);
    } catch (error) {
      if (this.#plan.source.split.length === 0 || failure(error).code === 'OUT_OF_MEMORY') {
        throw error;
      }
      // A rule failed on some record.
      result = await execute(await this.#statement({ guarded: true, nul }), parameters);
    }
    const classified = new Map<RecordBlock, Classified>();
    let at = 0;
    for (;;) {
      const chunk = await result.fetchChunk();
      if (chunk === null || chunk.rowCount === 0) {
        break;
      }
      const [records = [], highest = [], rules = []] = [1, 2, 3].map((column) =>
        chunk.getColumnValues(column),
      );
      const exceptions = chunk.getColumnVector(4) as DuckDBListVector;
      const dead = chunk.getColumnVector(5) as DuckDBListVector;
      for (let row = 0; row < chunk.rowCount; row++, at++) {
        const block = blocks[at];
        if (block === undefined || Number(records[row]) !== block.count) {
          throw mismatch(block, Number(records[row]));
        }
        classified.set(block, {
          partition: block.partition,
          highest: later(block.highest, highest[row] as bigint | null),
          rules: [...(rules[row] as { items: readonly number[] }).items],
          ...verdictsOf(
            numbersOf(exceptions, row),
            (dead.getItemVector(row)?.toArray() ?? []) as string[],
            this.#plan.source.fields,
          ),
        });
      }
    }
    if (at !== blocks.length) {
      throw mismatch(blocks[at], 0);
    }
    return classified;
  }

  async #statement(variant: ClassifyVariant): Promise<DuckDBPreparedStatement> {
    const key = JSON.stringify(variant);
    const statement =
      this.#statements.get(key) ??
      (await this.#engine.connection.prepare(this.#plan.classifySql(variant)));
    this.#statements.set(key, statement);
    return statement;
  }

  #parameters(blocks: readonly RecordBlock[], ceiling: bigint): Parameters & { text: Buffer } {
    const plan = this.#plan;
    const text = concatLines(blocks);
    return {
      text,
      counts: `[${blocks.map(({ count }) => count).join(',')}]`,
      highest: `[${blocks.map(({ highest }) => highest ?? 'null').join(',')}]`,
      ceiling,
      ...(plan.usesTimestamps
        ? { timestamps: numberList(blocks, ({ timestamps, count }) => timestamps ?? nulls(count)) }
        : {}),
      ...(plan.usesBytes
        ? { sizes: numberList(blocks, ({ sizes, count }) => sizes ?? nulls(count)) }
        : {}),
      ...(plan.source.split.some(({ divert }) => divert)
        ? { diverting: `[${blocks.map(({ diverting }) => String(diverting ?? false)).join(',')}]` }
        : {}),
      ...Object.fromEntries(
        plan.headerNames.map((name, i) => [
          `header${String(i)}`,
          JSON.stringify(
            blocks.flatMap(({ headers, count }) => headers?.get(name) ?? nulls(count)),
          ),
        ]),
      ),
    };
  }

  #empty({ partition, highest }: RecordBlock): Classified {
    return {
      partition,
      highest,
      rules: [...this.#plan.source.split, null].map(() => 0),
      dead: 0,
      exceptions: { positions: new Uint32Array(0), verdicts: new Int16Array(0) },
      reasons: [],
    };
  }
}

function mismatch(block: RecordBlock | undefined, lines: number): ComputeError {
  return new ComputeError(
    'BLOCK_MISMATCH',
    block === undefined
      ? 'The text of a step has more lines than its blocks say.'
      : `A block of partition ${String(block.partition)} says ${String(block.count)} records, its text has ${String(lines)} lines.`,
  );
}

function nulls(count: number): null[] {
  return Array<null>(count).fill(null);
}

function numberList(
  blocks: readonly RecordBlock[],
  of: (block: RecordBlock) => ArrayLike<number | null> & { join(separator: string): string },
): string {
  // join() writes null as nothing, which JSON doesn't know.
  const lists = blocks.map((block) => of(block)).filter(({ length }) => length > 0);
  return `[${lists.map((list) => (list[0] === null ? Array.from(list, () => 'null') : list).join(',')).join(',')}]`;
}

function later(a: bigint | null, b: bigint | null): bigint | null {
  return a === null || (b !== null && b > a) ? b : a;
}

/** The doubles of a list, without a value object each. */
function numbersOf(vector: DuckDBListVector, row: number): Float64Array {
  const items = vector.getItemVector(row);
  const numbers = new Float64Array(items?.itemCount ?? 0);
  for (let i = 0; i < numbers.length; i++) {
    numbers[i] = items?.getItem(i) as number;
  }
  return numbers;
}

function verdictsOf(
  coded: Float64Array,
  dead: readonly string[],
  fields: readonly Field[],
): Pick<Classified, 'dead' | 'exceptions' | 'reasons'> {
  const positions = new Uint32Array(coded.length);
  const verdicts = new Int16Array(coded.length);
  const reasons: Reason[] = [];
  const known = new Map<string, number>();
  const verdictFor = (line: string): number => {
    const reason = refusalReason(line, fields);
    let verdict = known.get(reason.detail);
    if (verdict === undefined) {
      reasons.push(reason);
      verdict = -reasons.length;
      known.set(reason.detail, verdict);
    }
    return verdict;
  };
  // DuckDB promises no order within a list; the sort of a typed array is native.
  coded.sort();
  for (let i = 0, next = 0; i < coded.length; i++) {
    const code = coded[i] ?? 0;
    const position = Math.floor(code / verdictRange);
    const verdict = code - position * verdictRange - 1;
    positions[i] = position;
    verdicts[i] = verdict < 0 ? verdictFor(dead[next++] ?? '') : verdict;
  }
  return { dead: dead.length, exceptions: { positions, verdicts }, reasons };
}
