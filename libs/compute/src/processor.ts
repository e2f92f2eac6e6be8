import path from 'node:path';
import type { Branch } from '@anabranch/definition';
import { type DuckDBBlobVector } from '@duckdb/node-api';
import { Engine, type EngineOptions, failure, messageOf, type Parameters } from './engine.ts';
import { ComputeError } from './errors.ts';
import { type DeadRecord, findFailing } from './failing-records.ts';
import { concatLines, lineAt } from './lines.ts';
import type { SourcePlan, TablePlan } from './plan.ts';
import { quoteText } from './quoting.ts';

/** Records of one branch and source partition. */
export interface TextBlock {
  readonly partition: number;
  /** A line per record, each with a line feed behind it, as ingest's blocks have them. */
  readonly text: Buffer;
  /** The lines' offsets, in their order. */
  readonly runs: readonly { readonly start: bigint; readonly count: number }[];
}

/** What became of one table's share of a partition; read = filtered + aggregated + dead. */
export interface ProcessedTable {
  readonly name: string;
  readonly partition: number;
  readonly read: number;
  readonly filtered: number;
  readonly aggregated: number;
  readonly dead: number;
  readonly rows: number;
  /** Rows for `COPY … WITH (FORMAT csv)`, in the order of the plan's columns. */
  readonly text: Buffer;
}

export interface Seconds {
  /** Parse into typed columns. */
  readonly load: number;
  /** `drop_nulls` and `where`. */
  readonly preprocess: number;
  /** Columns, windows, aggregates. */
  readonly process: number;
  /** The rows' text. */
  readonly store: number;
}

/** A record on which an expression of a table failed. */
export interface FailedRecord {
  readonly partition: number;
  readonly offset: bigint;
  readonly table: string;
  readonly code: string;
  readonly detail: string;
  /** The record's line, without its line feed. */
  readonly text: Buffer | null;
}

export interface Processed {
  /** One for each table and given partition, also where there is no row. */
  readonly tables: readonly ProcessedTable[];
  readonly deadLetters: readonly FailedRecord[];
  readonly seconds: Seconds;
  /** What each table took of them, but for the load, which is for all. */
  readonly tableSeconds: ReadonlyMap<string, number>;
}

/** What the records of a step are called in SQL: a table, or a view of Parquet files. */
const loaded = '"records"';
const spooled = '"files"';
/** Bytes of rows that are turned into text at a time; it takes some times as much memory. */
const textBytes = 4 * 1024 * 1024;
/** So few rows are taken at once, without a look at how long they are. */
const fewRows = 5000;

/** Computes the tables of one source over its records: the same SQL in both processors. */
export class Processor {
  readonly #plan: SourcePlan;
  readonly #engine: Engine;
  readonly #branch: Parameters;
  #busy = false;

  private constructor(plan: SourcePlan, engine: Engine, branch: Branch) {
    this.#plan = plan;
    this.#engine = engine;
    this.#branch = branch === 'stream' ? { stream: 1n, batch: 0n } : { stream: 0n, batch: 1n };
  }

  /**
   * @param options.spoolDirectory absolute; for `spool` and `processFiles`, which may touch no other
   *   folder, and for what doesn't fit into memory
   * @throws ComputeError `ENGINE`
   */
  static async open(
    plan: SourcePlan,
    options: EngineOptions & { readonly branch: Branch; readonly spoolDirectory?: string },
  ): Promise<Processor> {
    const { branch, spoolDirectory, ...engineOptions } = options;
    const engine = await Engine.open({
      ...engineOptions,
      ...(spoolDirectory === undefined ? {} : { directory: path.resolve(spoolDirectory) }),
    });
    try {
      // Fails at once on SQL that can't be prepared.
      (await engine.connection.prepare(plan.parseSql)).destroySync();
      return new Processor(plan, engine, branch);
    } catch (error) {
      engine.close();
      throw failure(error);
    }
  }

  /**
   * Computes the tables' rows of some blocks.
   * @throws ComputeError
   */
  async process(blocks: readonly TextBlock[]): Promise<Processed> {
    return this.#alone(async () => {
      const partitions = [...new Set(blocks.map(({ partition }) => partition))];
      const filled = withRecords(blocks);
      const clock = new Clock();
      if (filled.length === 0 || this.#plan.tables.length === 0) {
        const read = countsOf(filled);
        return this.#compute(null, partitions, read, clock, noLines);
      }
      try {
        // Not prepared once: the second run of a prepared CREATE TABLE makes one without columns.
        await this.#engine.run(
          `CREATE OR REPLACE TEMP TABLE ${loaded} AS ${this.#plan.parseSql}`,
          blockParameters(filled),
        );
      } catch (error) {
        throw unreadable(error);
      }
      const read = await this.#readCounts(loaded, filled);
      clock.lap('load');
      return this.#compute(loaded, partitions, read, clock, (dead) =>
        Promise.resolve(dead.map((record) => lineOf(filled, record))),
      );
    });
  }

  /**
   * Writes the records of some blocks to a Parquet file, over one that is there.
   * @param file within the spool's folder
   * @returns records and bytes of the blocks, and the seconds that it took
   * @throws ComputeError
   */
  async spool(
    blocks: readonly TextBlock[],
    file: string,
  ): Promise<{ records: number; bytes: number; seconds: number }> {
    return this.#alone(async () => {
      const begun = performance.now();
      const filled = withRecords(blocks);
      const none: TextBlock = { partition: 0, text: Buffer.from('\n'), runs: [] };
      const target = quoteText(path.resolve(file));
      const [result] = await this.#engine
        .rows(
          // ZSTD takes a third less space than the default, at the same speed.
          `COPY (${this.#plan.spoolSql}${filled.length === 0 ? ' WHERE false' : ''}) TO ${target} (FORMAT parquet, COMPRESSION zstd)`,
          blockParameters(filled.length === 0 ? [none] : filled),
        )
        .catch((error: unknown) => {
          throw unreadable(error);
        });
      const written = Number(result?.['Count'] ?? 0);
      const expected = [...countsOf(filled).values()].reduce((sum, count) => sum + count, 0);
      if (written !== expected) {
        throw new ComputeError(
          'BLOCK_MISMATCH',
          `Blocks say ${String(expected)} records, their texts have ${String(written)} lines.`,
        );
      }
      return {
        records: written,
        bytes: filled.reduce((sum, { text }) => sum + text.length, 0),
        seconds: (performance.now() - begun) / 1000,
      };
    });
  }

  /**
   * Computes the tables' rows of all records in some spooled files together.
   * @param partitions for which results are wanted, also where they have no record
   * @throws ComputeError
   */
  async processFiles(
    files: readonly string[],
    partitions: readonly number[] = [],
  ): Promise<Processed> {
    return this.#alone(async () => {
      const clock = new Clock();
      if (files.length === 0) {
        return this.#compute(null, partitions, new Map(), clock, noLines);
      }
      const list = files.map((file) => quoteText(path.resolve(file))).join(', ');
      await this.#engine.run(
        `CREATE OR REPLACE TEMP VIEW ${spooled} AS SELECT * FROM read_parquet([${list}])`,
      );
      const read = await this.#readCounts(spooled, null);
      clock.lap('load');
      const all = [...new Set([...partitions, ...read.keys()])];
      return this.#compute(spooled, all, read, clock, (dead) => this.#spooledLines(dead));
    });
  }

  close(): void {
    this.#engine.close();
  }

  /** Of the records that were found last: one pass over the files, not one a record. */
  async #spooledLines(dead: readonly DeadRecord[]): Promise<(Buffer | null)[]> {
    const rows = await this.#engine.rows(
      `SELECT "#partition" AS partition, "#offset" AS "offset", "#line" AS line FROM ${spooled} SEMI JOIN "failing" USING ("#partition", "#offset")`,
    );
    const lines = new Map(
      rows.map(({ partition, offset, line }) => [`${String(partition)}/${String(offset)}`, line]),
    );
    return dead.map(({ partition, offset }) => {
      const line = lines.get(`${String(partition)}/${String(offset)}`);
      return typeof line === 'string' ? Buffer.from(line) : null;
    });
  }

  async #alone<T>(work: () => Promise<T>): Promise<T> {
    if (this.#busy) {
      throw new ComputeError('BUSY', 'A processor takes one step at a time: await the former one.');
    }
    this.#busy = true;
    try {
      return await work();
    } catch (error) {
      throw failure(error);
    } finally {
      this.#busy = false;
    }
  }

  /** Records per partition; checked against what the blocks say. */
  async #readCounts(
    relation: string,
    blocks: readonly TextBlock[] | null,
  ): Promise<Map<number, number>> {
    const rows = await this.#engine.rows(
      `SELECT "#partition" AS partition, count(*) AS records, count("#time") AS timed FROM ${relation} GROUP BY ALL`,
    );
    const counts = new Map<number, number>();
    for (const { partition, records: count, timed } of rows) {
      if (partition === null || count !== timed) {
        throw new ComputeError(
          partition === null ? 'BLOCK_MISMATCH' : 'BLOCK_UNREADABLE',
          partition === null
            ? 'The texts of the blocks have more lines than the blocks say.'
            : `A record of partition ${String(Number(partition))} has no event time, or a block's text has fewer lines than it says.`,
        );
      }
      counts.set(Number(partition), Number(count));
    }
    for (const [partition, expected] of countsOf(blocks ?? [])) {
      if (counts.get(partition) !== expected) {
        throw new ComputeError(
          'BLOCK_MISMATCH',
          `Blocks of partition ${String(partition)} say ${String(expected)} records, their texts have ${String(counts.get(partition) ?? 0)} lines.`,
        );
      }
    }
    return counts;
  }

  async #compute(
    relation: string | null,
    partitions: readonly number[],
    read: ReadonlyMap<number, number>,
    clock: Clock,
    linesOf: (dead: readonly DeadRecord[]) => Promise<(Buffer | null)[]>,
  ): Promise<Processed> {
    const tables: ProcessedTable[] = [];
    const deadLetters: FailedRecord[] = [];
    const tableSeconds = new Map<string, number>();
    for (const plan of this.#plan.tables) {
      const begun = performance.now();
      const { passed, dead, texts } =
        relation === null ? nothing : await this.#table(plan, relation, clock);
      const lines = dead.length === 0 ? [] : await linesOf(dead);
      for (const [i, { partition, offset, detail }] of dead.entries()) {
        const text = lines[i] ?? null;
        deadLetters.push({
          partition,
          offset,
          table: plan.table.name,
          code: 'expression',
          detail,
          text,
        });
      }
      for (const partition of partitions) {
        const all = read.get(partition) ?? 0;
        const aggregated = passed.get(partition) ?? 0;
        const failed = dead.filter((record) => record.partition === partition).length;
        tables.push({
          name: plan.table.name,
          partition,
          read: all,
          filtered: all - aggregated - failed,
          aggregated,
          dead: failed,
          ...(texts.get(partition) ?? { rows: 0, text: Buffer.alloc(0) }),
        });
      }
      clock.lap('store');
      tableSeconds.set(plan.table.name, (performance.now() - begun) / 1000);
    }
    return { tables, deadLetters, seconds: clock.seconds, tableSeconds };
  }

  /**
   * Expressions are run plain: guarding each against failing records would cost several times as
   * much. Where one fails, the records are found, left out, and the rest is run again.
   */
  async #table(plan: TablePlan, relation: string, clock: Clock): Promise<TableOutcome> {
    const { sql, canFail } = plan;
    const dead: DeadRecord[] = [];
    let source = relation;
    const attempt = async <T>(work: () => Promise<T>): Promise<T> => {
      try {
        return await work();
      } catch (error) {
        const problem = failure(error);
        if (!canFail || problem.code === 'OUT_OF_MEMORY' || dead.length > 0) {
          throw problem;
        }
        dead.push(...(await findFailing(this.#engine, plan, relation)));
        if (dead.length === 0) {
          throw problem;
        }
        source = `(SELECT * FROM ${relation} ANTI JOIN "failing" USING ("#partition", "#offset"))`;
        return work();
      }
    };
    const count = async (): Promise<Map<number, number>> => {
      const rows = await this.#engine.rows(sql.count(source));
      return new Map(rows.map(({ partition, passed }) => [Number(partition), Number(passed)]));
    };
    let passed = await attempt(count);
    clock.lap('preprocess');
    const failedBefore = dead.length;
    const made = await attempt(async () => {
      const [result] = await this.#engine.rows(
        `CREATE OR REPLACE TEMP TABLE "rows" AS ${sql.rows(source)}`,
      );
      return Number(result?.['Count'] ?? 0);
    });
    if (dead.length > failedBefore) {
      passed = await count();
    }
    clock.lap('process');
    const texts = await this.#texts(sql.line, made);
    clock.lap('store');
    return { passed, dead, texts };
  }

  async #rowsPerText(line: string): Promise<number> {
    const [sample] = await this.#engine.rows(
      `SELECT avg(strlen(${line})) AS bytes FROM (SELECT * FROM "rows" LIMIT 1000)`,
      this.#branch,
    );
    return Math.max(Math.floor(textBytes / Math.max(Number(sample?.['bytes']), 1)), 1);
  }

  /** The rows' CSV by partition. As BLOBs, whose bytes don't pass through a string of JavaScript. */
  async #texts(line: string, rows: number): Promise<TableOutcome['texts']> {
    const parts = new Map<number, { rows: number; texts: Uint8Array[] }>();
    const step = rows > fewRows ? await this.#rowsPerText(line) : rows;
    for (let from = 0; from < rows; from += step) {
      const some =
        rows > step ? `WHERE rowid >= ${String(from)} AND rowid < ${String(from + step)}` : '';
      const result = await this.#engine.run(
        `SELECT "#partition" AS partition, count(*) AS rows, encode(string_agg(${line}, '')) AS text FROM "rows" ${some} GROUP BY ALL`,
        this.#branch,
      );
      for (;;) {
        const chunk = await result.fetchChunk();
        if (chunk === null || chunk.rowCount === 0) {
          break;
        }
        const [partitions = [], counts = []] = [0, 1].map((i) => chunk.getColumnValues(i));
        const texts = chunk.getColumnVector(2) as DuckDBBlobVector;
        for (let row = 0; row < chunk.rowCount; row++) {
          const part = parts.get(Number(partitions[row])) ?? { rows: 0, texts: [] };
          parts.set(Number(partitions[row]), part);
          part.rows += Number(counts[row]);
          part.texts.push(texts.getItemBytes(row) ?? new Uint8Array(0));
        }
      }
    }
    return new Map(
      [...parts].map(([partition, part]) => [
        partition,
        // A copy also where there is one text: short ones are views of DuckDB's memory.
        { rows: part.rows, text: Buffer.concat(part.texts) },
      ]),
    );
  }
}

interface TableOutcome {
  readonly passed: ReadonlyMap<number, number>;
  readonly dead: readonly DeadRecord[];
  readonly texts: ReadonlyMap<number, { readonly rows: number; readonly text: Buffer }>;
}

const nothing: TableOutcome = { passed: new Map(), dead: [], texts: new Map() };

/** Adds up the time between laps. */
class Clock {
  readonly seconds = { load: 0, preprocess: 0, process: 0, store: 0 };
  #last = performance.now();

  lap(stage: keyof Seconds): void {
    const now = performance.now();
    this.seconds[stage] += (now - this.#last) / 1000;
    this.#last = now;
  }
}

function blockParameters(blocks: readonly TextBlock[]): Parameters {
  const runs = blocks.flatMap((block) =>
    block.runs.map(({ start, count }) => ({ partition: block.partition, start, count })),
  );
  const list = (of: (run: (typeof runs)[number]) => number | bigint): string =>
    `[${runs.map((run) => String(of(run))).join(',')}]`;
  return {
    text: concatLines(blocks),
    starts: list(({ start }) => start),
    counts: list(({ count }) => count),
    partitions: list(({ partition }) => partition),
  };
}

function withRecords(blocks: readonly TextBlock[]): TextBlock[] {
  return blocks.filter(({ runs }) => runs.some(({ count }) => count > 0));
}

function countsOf(blocks: readonly TextBlock[]): Map<number, number> {
  const counts = new Map<number, number>();
  for (const { partition, runs } of blocks) {
    const records = runs.reduce((sum, { count }) => sum + count, 0);
    counts.set(partition, (counts.get(partition) ?? 0) + records);
  }
  return counts;
}

const noLines = (): Promise<Buffer[]> => Promise.resolve([]);

function lineOf(blocks: readonly TextBlock[], { partition, offset }: DeadRecord): Buffer | null {
  for (const block of blocks) {
    let line = 0;
    for (const { start, count } of block.partition === partition ? block.runs : []) {
      if (start <= offset && offset < start + BigInt(count)) {
        return lineAt(block.text, line + Number(offset - start));
      }
      line += count;
    }
  }
  return null;
}

function unreadable(error: unknown): ComputeError {
  const problem = failure(error);
  return /^(Conversion|Invalid Input) Error/.test(messageOf(error))
    ? new ComputeError(
        'BLOCK_UNREADABLE',
        `A block has a record that ingest should have refused, or was made under another schema: ${messageOf(error)}`,
        { cause: error },
      )
    : problem;
}
