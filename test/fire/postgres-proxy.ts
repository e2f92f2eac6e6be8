import pg from 'pg';
import { MessageReader } from './postgres-wire.ts';
import { type Inspector, type Link, Proxy } from './proxy.ts';

/** What is to happen to the next transaction that comes this far. */
export interface Ambush {
  /** Which statement of it: BEGIN is 0; `commit` is the last. */
  readonly statement: number | 'commit';
  /**
   * `terminate`: pg_terminate_backend in front of the statement. `cut`: the connection is lost in front of
   * it. `cut-after`: the server gets the statement, and the connection is lost in front of its answer.
   * `hold`: the statement goes on when `release` is called.
   */
  readonly how: 'terminate' | 'cut' | 'cut-after' | 'hold';
  /** It happens at the COMMIT of a transaction that has fewer statements, once so many have passed. Default 0. */
  readonly patience?: number;
  /** Only the COMMIT of a transaction with so many statements counts. Default 0. */
  readonly least?: number;
}

export interface Sprung {
  /** Number of the statement, and whether it was the COMMIT. */
  readonly statement: number;
  readonly isCommit: boolean;
  /** Lets a statement that is held go on. */
  readonly release: () => void;
}

/** A proxy in front of Postgres that counts the statements of each transaction. */
export class PostgresProxy {
  readonly proxy: Proxy;
  #ambush:
    | {
        readonly wanted: Ambush;
        readonly resolve: (sprung: Sprung) => void;
        /** Transactions that were over before the statement. */
        shorter: number;
      }
    | undefined;
  readonly #databaseUrl: string;

  /** @param databaseUrl of a superuser, direct */
  static async open(databaseUrl: string): Promise<PostgresProxy> {
    const port = Number(new URL(databaseUrl).port);
    // The proxy asks this object for an inspector once it has a connection.
    const later: { made?: PostgresProxy } = {};
    const proxy = await Proxy.open(port, (link) => {
      if (later.made === undefined) {
        throw new Error('Nobody connects yet.');
      }
      return later.made.#inspector(link);
    });
    later.made = new PostgresProxy(proxy, databaseUrl);
    return later.made;
  }

  private constructor(proxy: Proxy, databaseUrl: string) {
    this.proxy = proxy;
    this.#databaseUrl = databaseUrl;
  }

  /** Waits until a transaction has come as far as that, and it has happened. */
  ambush(wanted: Ambush): Promise<Sprung> {
    const { promise, resolve } = Promise.withResolvers<Sprung>();
    this.#ambush = { wanted, resolve, shorter: 0 };
    return promise;
  }

  #inspector(link: Link): Inspector {
    let backend = 0;
    /** Statements of the open transaction; null: none is open. */
    let statements: number | null = null;
    let isCommit = false;
    let reached = false;
    let cutAtAnswer = false;
    const client = new MessageReader(true, (type, body) => {
      const statement = type === 'Q' ? body.toString('latin1').slice(0, 8) : '';
      if (statement.startsWith('BEGIN')) {
        statements = 0;
        reached ||= this.#isDue(0, false);
      } else if (statements !== null && (type === 'Q' || type === 'E' || type === 'c')) {
        statements++;
        isCommit = statement.startsWith('COMMIT');
        reached ||= this.#isDue(statements, isCommit);
        if (isCommit || statement.startsWith('ROLLBACK')) {
          lastCount = statements;
          statements = null;
        }
      }
    });
    let lastCount = 0;
    const server = new MessageReader(false, (type, body) => {
      if (type === 'K') {
        backend = body.readInt32BE(0);
      }
    });
    return {
      fromClient: async (chunk) => {
        client.read(chunk);
        if (!reached || this.#ambush === undefined) {
          return chunk;
        }
        const { wanted, resolve } = this.#ambush;
        this.#ambush = undefined;
        reached = false;
        const { promise: released, resolve: release } = Promise.withResolvers<void>();
        const sprung = { statement: statements ?? lastCount, isCommit, release };
        switch (wanted.how) {
          case 'terminate':
            await this.#terminate(backend);
            resolve(sprung);
            return chunk;
          case 'cut':
            link.cut();
            resolve(sprung);
            return null;
          case 'hold':
            resolve(sprung);
            await released;
            return chunk;
          case 'cut-after':
            cutAtAnswer = true;
            resolve(sprung);
            return chunk;
        }
      },
      fromServer: (chunk) => {
        if (cutAtAnswer) {
          link.cut();
          return null;
        }
        if (backend === 0) {
          server.read(chunk);
        }
        return chunk;
      },
    };
  }

  #isDue(statement: number, isCommit: boolean): boolean {
    const ambush = this.#ambush;
    if (ambush === undefined) {
      return false;
    }
    const { wanted } = ambush;
    if (wanted.statement === 'commit') {
      return isCommit && statement >= (wanted.least ?? 0);
    }
    if (statement >= wanted.statement) {
      return true;
    }
    return isCommit && ambush.shorter++ >= (wanted.patience ?? 0);
  }

  async #terminate(backend: number): Promise<void> {
    const client = new pg.Client({ connectionString: this.#databaseUrl });
    client.on('error', () => undefined);
    try {
      await client.connect();
      await client.query('SELECT pg_terminate_backend($1)', [backend]);
    } finally {
      await client.end().catch(() => undefined);
    }
  }
}
