import type {
  Aggregate,
  AppendTable,
  Definition,
  Expression,
  Field,
  FieldType,
  Source,
  Table,
  UpsertTable,
  WindowTable,
} from '@anabranch/definition';
import { compile } from './compile.ts';
import type { SourcePlan } from './plan.ts';

/** Definitions for tests, as the loader would make them. */
export const expression = (sql: string): Expression => ({
  sql,
  at: { file: 'anabranch.yaml', line: 3, column: 11 },
});

export const field = (
  name: string,
  type: FieldType | FieldType['kind'],
  nullable = false,
): Field => ({
  name,
  type: (typeof type === 'string' ? { kind: type } : type) as FieldType,
  nullable,
  defaultSql: null,
});

export const decimal = (precision: number, scale: number): FieldType => ({
  kind: 'decimal',
  precision,
  scale,
});

export const eventTime = field('event_time', 'timestamp-millis');

export function source(fields: readonly Field[], change: Partial<Source> = {}): Source {
  return {
    name: 'orders',
    topic: 'orders',
    format: 'json',
    fields: [...fields, ...(fields.some(({ name }) => name === 'event_time') ? [] : [eventTime])],
    eventTime: 'event_time',
    disorder: 5000,
    maxSkew: 60_000,
    idleTimeout: null,
    maxRecordBytes: 1_000_000,
    split: [],
    defaultBranch: 'stream',
    batch: { every: 60_000, cron: null, backlogBytes: null, freshWithin: null },
    hash: 'source',
    ...change,
  };
}

type Columns = Readonly<Record<string, string>>;

const base = (name: string, columns: Columns): Omit<AppendTable, 'kind'> => ({
  name,
  at: { file: 'anabranch.yaml', line: 1, column: 1 },
  description: null,
  source: 'orders',
  latency: null,
  dropNulls: [],
  where: null,
  columns: Object.entries(columns).map(([column, sql]) => ({
    name: column,
    expression: expression(sql),
  })),
  hash: name,
});

export const append = (
  name: string,
  columns: Columns,
  change: Partial<AppendTable> = {},
): AppendTable => ({ ...base(name, columns), kind: 'append', ...change });

export const upsert = (
  name: string,
  key: readonly string[],
  columns: Columns,
  change: Partial<UpsertTable> = {},
): UpsertTable => ({ ...base(name, columns), kind: 'upsert', key, ...change });

/** @param aggregates as in `{ total: 'sum(x)', p95: 'approx_quantile(x; 0.95)' }`: parameters behind a semicolon */
export const windowed = (
  name: string,
  groupBy: readonly string[],
  aggregates: Columns,
  change: Partial<WindowTable> & { readonly of?: Columns } = {},
): WindowTable => {
  const { of = {}, ...rest } = change;
  return {
    ...base(name, of),
    kind: 'window',
    window: { size: 60_000, grace: 0 },
    groupBy,
    aggregates: Object.entries(aggregates).map(([aggregate, call]): Aggregate => {
      const [, by = '', argument = '', parameters] =
        /^(\w+)\((.*?)(?:; (.*))?\)$/s.exec(call) ?? [];
      return {
        name: aggregate,
        function: by as Aggregate['function'],
        argument: argument === '*' ? null : expression(argument),
        parameters: parameters?.split(', ') ?? [],
      };
    }),
    ...rest,
  };
};

export const definition = (from: Source, tables: readonly Table[]): Definition => ({
  file: 'anabranch.yaml',
  schema: 'public',
  sources: [from],
  tables,
});

export async function planOf(from: Source, tables: readonly Table[] = []): Promise<SourcePlan> {
  const plan = (await compile(definition(from, tables))).sources.get(from.name);
  if (plan === undefined) {
    throw new Error('no plan');
  }
  return plan;
}

export const engineOptions = { memoryLimit: '256MB', threads: 1 };

export const textOf = (lines: readonly string[]): Buffer =>
  Buffer.from(lines.map((line) => `${line}\n`).join(''));
