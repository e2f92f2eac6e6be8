import { createInterface } from 'node:readline';
import { DefinitionError } from './errors.ts';
import { parseDefinition } from './parse.ts';

/*
 * Reads the definitions that come as lines of JSON, one after the other, and answers each with a line: a
 * process of its own, so that a hang is seen from outside, and so is all memory.
 */
for await (const line of createInterface({ input: process.stdin })) {
  const { text, schema } = JSON.parse(line) as { text: string; schema: string };
  const begun = performance.now();
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
            problems: error.problems.slice(0, 50).map(({ file, line: at, column, message }) => ({
              file,
              line: at,
              column,
              message: message.slice(0, 500),
            })),
            count: error.problems.length,
            shown: error.message.length,
          }
        : { error: error instanceof Error ? (error.stack ?? error.message) : String(error) };
  }
  process.stdout.write(
    `${JSON.stringify({ ...answer, milliseconds: performance.now() - begun, kilobytes: process.resourceUsage().maxRSS })}\n`,
  );
}
