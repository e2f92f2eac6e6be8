import {
  type Definition,
  DefinitionError,
  loadDefinition,
  type Problem,
  type Source,
} from '@anabranch/definition';
import type { DuckDBConnection } from '@duckdb/node-api';
import { checkExpression } from './check-expression.ts';
import { classifySql, headerSyntax, type RuleInputs } from './classify-sql.ts';
import { Engine } from './engine.ts';
import { fieldSizes, smallSizes } from './expression-cost.ts';
import { typedNulls } from './field-types.ts';
import type { Plan, SourcePlan, TablePlan } from './plan.ts';
import { quoteName } from './quoting.ts';
import { parseSql } from './record-columns.ts';
import { planTable } from './table-plan.ts';

/** The definition in a file, checked and compiled. @throws DefinitionError with all that is wrong */
export async function loadPlan(file: string): Promise<Plan> {
  return compile(loadDefinition(file));
}

/**
 * Checks all expressions with DuckDB and compiles them into SQL.
 * @throws DefinitionError with all problems found
 */
export async function compile(definition: Definition): Promise<Plan> {
  const engine = await Engine.open({ memoryLimit: '128MB', threads: 1, errorsAsJson: true });
  try {
    return await compileWith(engine.connection, definition);
  } finally {
    engine.close();
  }
}

async function compileWith(connection: DuckDBConnection, definition: Definition): Promise<Plan> {
  const problems: Problem[] = [];
  const sources = new Map<string, SourcePlan>();
  const tables = new Map<string, TablePlan>();
  for (const source of definition.sources) {
    const rules = await checkRules(connection, source);
    if ('problems' in rules) {
      problems.push(...rules.problems);
    }
    const used = new Set<string>();
    const plans: TablePlan[] = [];
    for (const table of definition.tables.filter((candidate) => candidate.source === source.name)) {
      const planned = await planTable(connection, source, table);
      if ('problems' in planned) {
        problems.push(...planned.problems);
        continue;
      }
      tables.set(table.name, planned.plan);
      plans.push(planned.plan);
      for (const name of planned.fields) {
        used.add(name);
      }
    }
    if (!('problems' in rules)) {
      const fields = source.fields.filter(({ name }) => used.has(name));
      sources.set(source.name, {
        source,
        usesLateBy: rules.lateBy,
        usesTimestamps: rules.age,
        usesBytes: rules.bytes,
        headerNames: rules.headerNames,
        classifySql: (variant) => classifySql(source, rules, variant),
        parseSql: parseSql(source, fields, false),
        spoolSql: parseSql(
          source,
          fields,
          plans.some(({ canFail }) => canFail),
        ),
        fields,
        tables: plans,
      });
    }
  }
  if (problems.length > 0) {
    throw new DefinitionError(problems);
  }
  return { definition, sources, tables };
}

/** What split rules can use beside the fields, with its type. A field of the same name wins. */
const ruleColumns = {
  late_by: 'INTERVAL',
  age: 'INTERVAL',
  bytes: 'BIGINT',
} as const;

async function checkRules(
  connection: DuckDBConnection,
  source: Source,
): Promise<RuleInputs | { problems: readonly Problem[] }> {
  const fields = source.fields.map(({ name }) => name);
  const taken = new Set(fields.map((name) => name.toLowerCase()));
  const extra = Object.entries(ruleColumns).filter(([name]) => !taken.has(name));
  const names = [...fields, ...extra.map(([name]) => name)];
  const problems: Problem[] = [];
  const references = new Set<string>();
  const headerNames = new Map<string, string>();
  const conditions: string[] = [];
  for (const { name, when } of source.split) {
    const what = `source ${source.name}, split rule ${name}`;
    const checked = await checkExpression(connection, when, {
      what,
      names,
      sizes: new Map([
        ...extra.map(([column]) => [column, smallSizes] as const),
        ...fieldSizes(source.fields),
      ]),
      relation: (headers) => ruleRelation(source, extra, headers),
      headers: !taken.has('headers'),
      expects: 'boolean',
    });
    if ('problems' in checked) {
      problems.push(...checked.problems);
      continue;
    }
    conditions.push(checked.sql);
    for (const reference of checked.references) {
      references.add(reference);
    }
    for (const header of checked.headerNames) {
      const other = headerNames.get(header.toLowerCase());
      if (other !== undefined && other !== header) {
        problems.push({
          ...when.at,
          text: header,
          message: `${what}: the headers ${headerSyntax(other)} and ${headerSyntax(header)} differ only in case: DuckDB can't tell them apart`,
        });
      }
      headerNames.set(header.toLowerCase(), header);
    }
  }
  if (problems.length > 0) {
    return { problems };
  }
  const uses = (name: string): boolean => references.has(name) && !taken.has(name);
  return {
    conditions,
    fields: fields.filter((name) => references.has(name)),
    lateBy: uses('late_by'),
    age: uses('age'),
    bytes: uses('bytes'),
    headerNames: [...headerNames.values()],
  };
}

function ruleRelation(
  source: Source,
  extra: readonly (readonly [string, string])[],
  headerNames: readonly string[],
): string {
  const columns = [
    ...extra.map(([name, type]) => `CAST(NULL AS ${type}) AS ${quoteName(name)}`),
    ...(headerNames.length > 0
      ? [
          `struct_pack(${[...new Map(headerNames.map((name) => [name.toLowerCase(), name])).values()].map((name) => `${quoteName(name)} := NULL::VARCHAR`).join(', ')}) AS headers`,
        ]
      : []),
  ];
  return `(SELECT *${columns.map((column) => `, ${column}`).join('')} FROM ${typedNulls(source.fields)})`;
}
