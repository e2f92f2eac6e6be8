import type { Socket } from 'node:net';
import pg from 'pg';
import { PostgresError, tlsFault } from './errors.ts';

const bigint: number = pg.types.builtins.INT8;
/** bigint as JavaScript's bigint: offsets keep all of their 64 bits. */
const types: pg.CustomTypesConfig = {
  getTypeParser: (oid: number, format?: 'text' | 'binary') => {
    if (oid === bigint && format !== 'binary') {
      return BigInt;
    }
    return pg.types.getTypeParser(oid, format) as (text: string) => unknown;
  },
};

export interface PostgresTls {
  readonly rejectUnauthorized: boolean;
  readonly ca?: string;
  readonly cert?: string;
  readonly key?: string;
}

export interface PoolOptions {
  /** Without sslmode and the like, which would go before `ssl`. */
  readonly url: string;
  /** Node's TLS options; false: no TLS, whatever PGSSLMODE says. */
  readonly ssl: false | PostgresTls;
  readonly applicationName: string;
  /** Connections at the most. */
  readonly size: number;
  /** Told of what breaks a connection that isn't in use; in use, the statement reports it. */
  readonly onError: (error: Error) => void;
  /** Makes what every connection needs, such as temporary tables, before it is first used. */
  readonly prepare?: (client: pg.ClientBase) => Promise<void>;
  /** How long nothing may come while a statement is under way, until the connection is given up. Default 75,000. */
  readonly silence?: number;
}

/**
 * Sessions end what a frozen client left open: a transaction that idles holds its frontier rows,
 * and with them the next owner of the partitions.
 */
const idleInTransactionMilliseconds = 10_000;
/** A merge of some thousand rows takes milliseconds; a minute means that something blocks it. */
const statementMilliseconds = 60_000;
/**
 * Past its statement timeout a server that can be reached has answered. One behind a network that
 * swallows packets never does, and the kernel would wait for it for hours where a proxy keeps the connection.
 */
const silenceMilliseconds = 75_000;

export function openPool({
  url,
  ssl,
  applicationName,
  size,
  onError,
  prepare = () => Promise.resolve(),
  silence = silenceMilliseconds,
}: PoolOptions): pg.Pool {
  const pool = new pg.Pool({
    connectionString: url,
    // pg changes what it is given.
    ssl: ssl && { ...ssl },
    application_name: applicationName,
    max: size,
    types,
    connectionTimeoutMillis: 10_000,
    keepAlive: true,
    statement_timeout: statementMilliseconds,
    idle_in_transaction_session_timeout: idleInTransactionMilliseconds,
    // Views and text depend on none of the user's settings; and what is read behind a lock must be
    // as it is then, not as it was when the transaction began.
    options:
      '-c TimeZone=UTC -c DateStyle=ISO -c client_min_messages=warning -c default_transaction_isolation=read\\ committed',
    // The pool waits for the promise, whatever its type says.
    onConnect: (client) => {
      giveUpWhenSilent(client, silence);
      return prepare(client) as unknown as void;
    },
  });
  pool.on('error', onError);
  return pool;
}

/** pg's own query_timeout leaves the connection as it is, so a ROLLBACK would wait as long again. */
function giveUpWhenSilent(client: pg.ClientBase, silence: number): void {
  const { stream } = (client as unknown as { connection: { stream: Socket } }).connection;
  stream.setTimeout(silence, () => {
    const message = `Postgres has said nothing for ${silence / 1000} s: the connection is given up.`;
    stream.destroy(Object.assign(new Error(message), { code: 'ETIMEDOUT' }));
  });
}

/**
 * @throws PostgresError `TOO_OLD` for a server before 15, which lacks UNIQUE NULLS NOT DISTINCT;
 *   `NOT_TRUSTED` where TLS is asked for and can't be had
 */
export async function checkServer(pool: pg.Pool): Promise<void> {
  const { rows } = await pool
    .query<{ version: number; text: string }>(
      `SELECT current_setting('server_version_num')::int AS version, current_setting('server_version') AS text`,
    )
    .catch((cause: unknown) => {
      const fault = tlsFault(cause);
      throw fault === undefined ? cause : new PostgresError('NOT_TRUSTED', `${fault}.`, { cause });
    });
  const [server] = rows;
  if (server === undefined || server.version < 150_000) {
    throw new PostgresError(
      'TOO_OLD',
      `Postgres is ${server?.text ?? 'of unknown version'}; Anabranch needs 15 or newer.`,
    );
  }
}
