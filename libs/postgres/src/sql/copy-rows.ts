import { once } from 'node:events';
import type pg from 'pg';
import { from as copyFrom } from 'pg-copy-streams';

/** How much is handed to the socket at once. */
const chunkBytes = 256 * 1024;

/**
 * Pipes rows that a processor wrote as CSV into a table, untouched.
 * @param target quoted name of the table
 * @param columns quoted names, in the order of the text
 */
export async function copyRows(
  client: pg.PoolClient,
  target: string,
  columns: readonly string[],
  texts: readonly Buffer[],
): Promise<void> {
  const stream = client.query(
    copyFrom(`COPY ${target} (${columns.join(', ')}) FROM STDIN WITH (FORMAT csv)`),
  );
  const finished = once(stream, 'finish');
  // The copy may fail while chunks are still being written; the failure is awaited below.
  finished.catch(() => undefined);
  for (const text of texts) {
    for (let at = 0; at < text.length; at += chunkBytes) {
      if (!stream.write(text.subarray(at, at + chunkBytes))) {
        await Promise.race([once(stream, 'drain'), finished]);
      }
    }
  }
  stream.end();
  await finished;
}
