import type { Altered } from './block.ts';

const lineFeed = 0x0a;
const byteOrderMark = Buffer.from([0xef, 0xbb, 0xbf]);

/**
 * A record's value as it was produced, from its line in a block's payload.
 * @param line without the line feed behind it
 * @param altered what ingest changed in it; undefined: nothing
 */
export function restoreValue(line: Buffer, altered: Altered | undefined): Buffer {
  const value = Buffer.from(line);
  if (altered === undefined) {
    return value;
  }
  for (const at of altered.lineFeeds) {
    value[at] = lineFeed;
  }
  return altered.byteOrderMark ? Buffer.concat([byteOrderMark, value]) : value;
}
