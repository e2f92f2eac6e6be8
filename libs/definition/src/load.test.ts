import { readFileSync } from 'node:fs';
import { fileURLToPath } from 'node:url';
import { expect, it } from 'vitest';
import { generate } from '../../../examples/quick-start/generate.ts';
import { DefinitionError } from './errors.ts';
import { loadDefinition } from './load.ts';
import { definitionJsonSchema } from './shape.ts';

const quickStart = new URL('../../../examples/quick-start/', import.meta.url);

function quickStartFile(name: string): string {
  return fileURLToPath(new URL(name, quickStart));
}

it("loads the quick start's definition", () => {
  const { sources, tables } = loadDefinition(quickStartFile('anabranch.yaml'));
  expect(sources.map((source) => source.split.map((rule) => rule.name))).toEqual([
    ['bulk', 'late'],
  ]);
  expect(tables.map((table) => [table.name, table.kind])).toEqual([
    ['clean_rows', 'append'],
    ['latest_by_region', 'upsert'],
    ['per_minute', 'window'],
  ]);
});

it('says that a file is missing, or is none', () => {
  expect(() => loadDefinition('no/such.yaml')).toThrow(
    "no/such.yaml:1:1: can't read the definition: there is no such file",
  );
  expect(() => loadDefinition(quickStartFile('.'))).toThrow(DefinitionError);
  expect(() => loadDefinition(quickStartFile('.'))).toThrow('not a file');
});

// If one of these fails, run the script again that is named there and commit what it writes.

it('has the JSON Schema that tools/write-json-schema.ts writes', () => {
  const file = new URL('../anabranch.schema.json', import.meta.url);
  expect(JSON.parse(readFileSync(file, 'utf8'))).toEqual(
    JSON.parse(JSON.stringify(definitionJsonSchema())),
  );
});

it("has the quick start's data as examples/quick-start/generate.ts writes them", () => {
  const { batch, stream } = generate();
  expect(readFileSync(quickStartFile('batch_data.csv'), 'utf8') === batch).toBe(true);
  expect(readFileSync(quickStartFile('stream_data.csv'), 'utf8') === stream).toBe(true);
});
