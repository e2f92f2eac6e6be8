import pg from 'pg';

const oldestVersion = 15;

/**
 * @returns undefined if a Postgres that we can work with answers at this URL, else what is wrong,
 *   as the end of a sentence
 */
export async function postgresFault(url: string): Promise<string | undefined> {
  let client: pg.Client;
  try {
    client = new pg.Client({ connectionString: url, connectionTimeoutMillis: 3000 });
  } catch {
    return 'it is not a URL like postgres://user:password@host:5432/database';
  }
  // Without a listener, a server that ends during this would end us.
  client.on('error', () => {});
  try {
    await client.connect();
    const { rows } = await client.query<{ server_version_num: string }>('SHOW server_version_num');
    const version = Math.floor(Number(rows[0]?.server_version_num) / 10_000);
    return version < oldestVersion
      ? `it is Postgres ${version}, and ${oldestVersion} is the oldest that works`
      : undefined;
  } catch (error) {
    return error instanceof AggregateError
      ? error.errors.map((each) => (each as Error).message).join(', ')
      : (error as Error).message;
  } finally {
    await client.end().catch(() => {});
  }
}
