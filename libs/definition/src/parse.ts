import { DefinitionError, type Problem } from './errors.ts';
import { type Located, readLocated } from './located.ts';
import type { Definition, Source, Table } from './model.ts';
import { definitionShape, sourceShape, tableShape } from './shape.ts';
import { shapeProblems } from './shape-problems.ts';
import { SectionReader } from './section-reader.ts';
import { checkDiversions, checkTopics, type ReadSchema, readSource } from './source.ts';
import { SourceText } from './source-text.ts';
import { readTable, type TableSource } from './table.ts';

/** Many times what a large definition has. */
const maxLength = 256 * 1024;

export interface DefinitionText {
  /** What errors call it. */
  readonly file: string;
  readonly text: string;
  readonly readSchema: ReadSchema;
}

/**
 * Reads and checks a definition, all but its SQL.
 *
 * @throws {DefinitionError} with everything that is wrong
 */
export function parseDefinition({ file, text, readSchema }: DefinitionText): Definition {
  if (text.length > maxLength) {
    const message = `is longer than ${String(maxLength / 1024)} KiB, so it can't be a definition`;
    throw new DefinitionError([{ file, line: 1, column: 1, text: '', message }]);
  }
  const source = new SourceText(file, text.replace(/^\ufeff/, ''));
  const problems: Problem[] = [];
  const root = readLocated(source, problems);
  // What can't be read is wrong also as a value: that it says only once.
  const unreadable = new Set(problems.map(placeOf));
  const found: Problem[] = [];
  const definition = root && read(root, source, found, readSchema);
  problems.push(...found.filter((problem) => !unreadable.has(placeOf(problem))));
  if (!definition || problems.length > 0) {
    throw new DefinitionError(problems);
  }
  return definition;
}

function placeOf({ file, line, column }: Problem): string {
  return `${file}:${String(line)}:${String(column)}`;
}

function read(
  root: Located,
  source: SourceText,
  problems: Problem[],
  readSchema: ReadSchema,
): Definition {
  const whole = definitionShape.safeParse(root.value);
  if (!whole.success) {
    problems.push(...shapeProblems(definitionShape, whole.error.issues, root, source));
  }
  const reader = new SectionReader(source, problems);

  // Entry by entry, so that a mistake in one doesn't hide those in the others.
  const sourcesByName = new Map<string, TableSource>();
  const sources: Source[] = [];
  const sourcesAt = root.children.get('sources');
  for (const [name, at] of sourcesAt?.children ?? []) {
    const shape = sourceShape.safeParse(at.value);
    const made = shape.success
      ? readSource(String(name), shape.data, at, reader, readSchema)
      : null;
    sourcesByName.set(String(name), made);
    if (made) {
      sources.push(made);
    }
  }
  checkTopics(sources, sourcesAt, reader);
  if (sourcesAt && whole.success && sourcesAt.children.size === 0) {
    reader.report(sourcesAt, 'at least one source is needed');
  }

  const tables: Table[] = [];
  const tablesAt = root.children.get('tables');
  for (const [name, at] of tablesAt?.children ?? []) {
    const shape = tableShape.safeParse(at.value);
    const table = shape.success
      ? readTable(String(name), shape.data, at, sourcesByName, reader)
      : null;
    if (table) {
      tables.push(table);
    }
  }
  if (problems.length === 0) {
    checkDiversions(sources, tables, sourcesAt, reader);
  }
  if (tablesAt && whole.success && tablesAt.children.size === 0) {
    reader.report(tablesAt, 'at least one table is needed');
  }

  const schema = whole.data?.schema ?? 'public';
  if (schema === 'anabranch' || schema === 'information_schema' || schema.startsWith('pg_')) {
    const message = `the schema "${schema}" belongs to ${schema === 'anabranch' ? 'Anabranch itself' : 'Postgres'}`;
    reader.report(root.children.get('schema') ?? root, message, 'choose another for the views');
  }
  return { file: source.file, schema, sources, tables };
}
