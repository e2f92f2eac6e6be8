import { ComputeError } from './errors.ts';

const lineFeed = 10;

/**
 * The lines of several blocks, without the last line feed, behind which there is no line.
 * @throws ComputeError `BLOCK_MISMATCH`
 */
export function concatLines(
  blocks: readonly { readonly partition: number; readonly text: Buffer }[],
): Buffer {
  for (const { partition, text } of blocks) {
    if (text.at(-1) !== lineFeed) {
      throw new ComputeError(
        'BLOCK_MISMATCH',
        `The text of a block of partition ${String(partition)} doesn't end with a line feed.`,
      );
    }
  }
  const [first] = blocks;
  const all =
    blocks.length === 1 && first ? first.text : Buffer.concat(blocks.map(({ text }) => text));
  return all.subarray(0, Math.max(all.length - 1, 0));
}

/** A line, by its number, without its line feed. */
export function lineAt(text: Buffer, line: number): Buffer {
  let start = 0;
  for (let i = 0; i < line; i++) {
    start = text.indexOf(lineFeed, start) + 1;
  }
  const end = text.indexOf(lineFeed, start);
  return text.subarray(start, end < 0 ? text.length : end);
}
