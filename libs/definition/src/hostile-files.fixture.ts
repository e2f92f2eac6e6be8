import { createInterface } from 'node:readline';
import { DefinitionError } from './errors.ts';
import { parseDefinition } from './parse.ts';

/*
 * Reads the definitions that come as lines of JSON, one after the other, and answers each with a line: a
 * process of its own, so that a hang is seen from outside, and so is all memory.
 */
for await (const line of createInterface({ input: process.stdin })) {
  const { text, schema } = JSON.parse(line) as { text: string; schema: string };
  let answer: object;
  try {
    parseDefinition({
      file: 'anabranch.yaml',
      text,
      readSchema: () => ({ file: 'orders.avsc', text: schema }),
    });
    answer = { problems: [] };
  } catch (error) {
    answer =
      error instanceof DefinitionError
        ? {
            problems: error.problems.slice(0, 20).map((problem) => ({
              file: problem.file,
              line: problem.line,
              column: problem.column,
              message: problem.message.slice(0, 200),
            })),
            shown: error.message.length,
          }
        : { error: error instanceof Error ? (error.stack ?? error.message) : String(error) };
  }
  // readline ends a line at a separator of Unicode's, too.
  const json = JSON.stringify({ ...answer, kilobytes: process.resourceUsage().maxRSS });
  process.stdout.write(`${json.replaceAll(/[\u2028\u2029]/g, ' ')}\n`);
}
