import { createInterface } from 'node:readline';
import { append, decimal, expression, field, source } from './definition-fixture.ts';
import { Engine } from './engine.ts';
import { planTable } from './table-plan.ts';

/*
 * Checks the expressions that come as lines of JSON, one after the other, and answers each with a line:
 * a process of its own, so that a crash of native code, a hang and all memory are seen from outside.
 */

const fields = [
  field('price', decimal(12, 2)),
  field('quantity', 'int'),
  field('weight', 'double'),
  field('region', 'string', true),
  field('express', 'boolean'),
  field('day', 'date'),
  field('id', 'uuid'),
];
const engine = await Engine.open({ memoryLimit: '128MB', threads: 1, errorsAsJson: true });

/** What an expression could have changed. */
async function settings(): Promise<string> {
  const [found] = await engine.rows(
    `SELECT (SELECT string_agg(name || value, ' ' ORDER BY name) FROM duckdb_settings()) AS settings,
      (SELECT count(*) FROM duckdb_tables()) + (SELECT count(*) FROM duckdb_functions()) + (SELECT count(*) FROM duckdb_databases()) AS things`,
  );
  return Object.values(found ?? {}).join(' ');
}

const before = await settings();
for await (const line of createInterface({ input: process.stdin })) {
  const sql = JSON.parse(line) as string;
  let answer: object;
  try {
    const planned = await planTable(
      engine.connection,
      source(fields),
      append('t', { value: sql }, { where: expression(sql) }),
    );
    answer = { problems: 'problems' in planned ? planned.problems : [] };
  } catch (error) {
    answer = { error: error instanceof Error ? (error.stack ?? error.message) : String(error) };
  }
  process.stdout.write(`${JSON.stringify(answer)}\n`);
}
process.stdout.write(
  `${JSON.stringify({ unchanged: (await settings()) === before, kilobytes: process.resourceUsage().maxRSS })}\n`,
);
engine.close();
