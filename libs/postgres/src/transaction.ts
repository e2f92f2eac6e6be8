import type pg from 'pg';
import { PostgresError } from './errors.ts';

/**
 * Runs `work` in one transaction on a connection of its own.
 *
 * When the connection is lost while COMMIT is under way, nobody here knows whether it took place:
 * that comes as `OUTCOME_UNKNOWN`, and whoever called reads the frontier to learn the truth.
 *
 * @throws what `work` throws, after a rollback; PostgresError `OUTCOME_UNKNOWN`
 */
export async function transaction<T>(
  pool: pg.Pool,
  work: (client: pg.PoolClient) => Promise<T>,
): Promise<T> {
  const client = await pool.connect();
  // Without a listener, a connection that breaks between two statements would end the process;
  // the next statement reports the loss.
  const ignore = (): void => undefined;
  client.on('error', ignore);
  let broken: Error | undefined;
  try {
    await client.query('BEGIN').catch((cause: Error) => {
      broken = cause;
      throw cause;
    });
    let result: T;
    try {
      result = await work(client);
    } catch (error) {
      await client.query('ROLLBACK').catch((cause: Error) => {
        broken = cause;
      });
      throw error;
    }
    const { command } = await client.query('COMMIT').catch((cause: Error) => {
      broken = cause;
      throw new PostgresError(
        'OUTCOME_UNKNOWN',
        'The connection to Postgres was lost during a commit; the frontier tells whether it took place.',
        { cause },
      );
    });
    if (command !== 'COMMIT') {
      throw new Error(
        'A statement of the transaction failed and nobody noticed: it was rolled back.',
      );
    }
    return result;
  } finally {
    client.off('error', ignore);
    client.release(broken);
  }
}
