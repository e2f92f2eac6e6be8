import {
  type DuckDBConnection,
  DuckDBInstance,
  type DuckDBMaterializedResult,
  type DuckDBPreparedStatement,
} from '@duckdb/node-api';
import { ComputeError } from './errors.ts';
import { quoteText } from './quoting.ts';

export interface EngineOptions {
  /** As DuckDB writes it: `128MB`. */
  readonly memoryLimit: string;
  readonly threads: number;
}

/** Values of named parameters. */
export type Parameters = Readonly<Record<string, Uint8Array | string | bigint | boolean>>;

/** A DuckDB of its own in memory, that can reach nothing but itself and one folder, if any. */
export class Engine {
  readonly connection: DuckDBConnection;
  readonly #instance: DuckDBInstance;

  private constructor(instance: DuckDBInstance, connection: DuckDBConnection) {
    this.#instance = instance;
    this.connection = connection;
  }

  /**
   * @param options.directory absolute; the only folder that SQL may read and write. DuckDB spills
   *   into it what doesn't fit into memory; without a folder it spills nothing.
   * @throws ComputeError `ENGINE`
   */
  static async open({
    memoryLimit,
    threads,
    directory,
    errorsAsJson = false,
  }: EngineOptions & { directory?: string; errorsAsJson?: boolean }): Promise<Engine> {
    try {
      const instance = await DuckDBInstance.create(':memory:', {
        threads: String(threads),
        memory_limit: memoryLimit,
        autoinstall_known_extensions: 'false',
        autoload_known_extensions: 'false',
      });
      const connection = await instance.connect();
      const folder = directory?.replace(/\/*$/, '/');
      const settings = [
        "SET TimeZone = 'UTC'",
        // The first would compute what two TRYs have in common outside of both, where it isn't
        // guarded. The second drops terms of an AND for what it knows of the values of a step, so
        // that an expression fails on a record or doesn't, depending on the records beside it.
        "SET disabled_optimizers = 'common_subexpressions,statistics_propagation'",
        `SET temp_directory = ${quoteText(folder === undefined ? '' : `${folder}spill`)}`,
        ...(folder === undefined ? [] : [`SET allowed_directories = [${quoteText(folder)}]`]),
        `SET errors_as_json = ${String(errorsAsJson)}`,
        'SET enable_external_access = false',
        'SET lock_configuration = true',
      ];
      for (const setting of settings) {
        await connection.run(setting);
      }
      return new Engine(instance, connection);
    } catch (cause) {
      throw new ComputeError(
        'ENGINE',
        `DuckDB can't be started with memory limit ${memoryLimit} and ${String(threads)} threads: ${messageOf(cause)}`,
        { cause },
      );
    }
  }

  /** @throws ComputeError `OUT_OF_MEMORY`, `QUERY_FAILED` */
  async run(sql: string, parameters: Parameters = {}): Promise<DuckDBMaterializedResult> {
    try {
      const statement = await this.connection.prepare(sql);
      try {
        return await execute(statement, parameters);
      } finally {
        statement.destroySync();
      }
    } catch (error) {
      throw failure(error);
    }
  }

  /** @throws ComputeError `OUT_OF_MEMORY`, `QUERY_FAILED` */
  async rows(sql: string, parameters: Parameters = {}): Promise<Record<string, unknown>[]> {
    const result = await this.run(sql, parameters);
    return result.getRowObjects();
  }

  close(): void {
    this.connection.closeSync();
    this.#instance.closeSync();
  }
}

/** Parameters that the statement doesn't have are left out. */
export async function execute(
  statement: DuckDBPreparedStatement,
  parameters: Parameters,
): Promise<DuckDBMaterializedResult> {
  for (let index = 1; index <= statement.parameterCount; index++) {
    const value = parameters[statement.parameterName(index)];
    if (value instanceof Uint8Array) {
      statement.bindBlob(index, value);
    } else if (typeof value === 'string') {
      statement.bindVarchar(index, value);
    } else if (typeof value === 'bigint') {
      statement.bindBigInt(index, value);
    } else if (typeof value === 'boolean') {
      statement.bindBoolean(index, value);
    } else {
      statement.bindNull(index);
    }
  }
  return statement.run();
}

export function failure(error: unknown): ComputeError {
  if (error instanceof ComputeError) {
    return error;
  }
  const message = messageOf(error);
  if (message.startsWith('Out of Memory Error')) {
    return new ComputeError(
      'OUT_OF_MEMORY',
      `DuckDB has not enough memory for the step: raise the service's memory limit, or lower the size of its steps. ${message}`,
      { cause: error },
    );
  }
  return new ComputeError('QUERY_FAILED', message, { cause: error });
}

/** The first line: DuckDB shows the statement below it. */
export function messageOf(error: unknown): string {
  const message = error instanceof Error ? error.message : String(error);
  return message.split('\n', 1)[0] ?? '';
}
