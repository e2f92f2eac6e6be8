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

/** Where the lines of a text begin: found once, however many of them are asked for. */
const startsOf = new WeakMap<Buffer, Uint32Array>();

function lineStarts(text: Buffer): Uint32Array {
  const known = startsOf.get(text);
  if (known !== undefined) {
    return known;
  }
  const starts = [0];
  for (let at = text.indexOf(lineFeed); at >= 0; at = text.indexOf(lineFeed, at + 1)) {
    starts.push(at + 1);
  }
  const found = Uint32Array.from(starts);
  startsOf.set(text, found);
  return found;
}

/** A line, by its number, without its line feed. The text must not change. */
export function lineAt(text: Buffer, line: number): Buffer {
  const start = lineStarts(text)[line] ?? text.length;
  const end = text.indexOf(lineFeed, start);
  return text.subarray(start, end < 0 ? text.length : end);
}
