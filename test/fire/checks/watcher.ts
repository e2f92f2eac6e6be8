import { setTimeout as pause } from 'node:timers/promises';
import { errorCode } from '@anabranch/postgres';
import pg from 'pg';

/** A table that has one row per window, and what its key is. */
export interface WatchedWindow {
  readonly table: string;
  readonly key: readonly string[];
}

/** A table of whose every record the ledger says where it went: how its rows count records. */
export interface WatchedCount {
  readonly table: string;
}

export interface WatcherOptions {
  /** Direct, not through a proxy. */
  readonly databaseUrl: string;
  readonly windows: readonly WatchedWindow[];
  readonly keyed: readonly { readonly table: string; readonly key: readonly string[] }[];
  readonly appended: readonly string[];
}

interface Seen {
  readonly status: string;
  readonly revision: bigint;
  /** All of the row but status, revision and updated_at. */
  readonly values: string;
}

interface Row {
  readonly key: string;
  readonly status: string;
  readonly revision: string;
  readonly values: string;
}

const pauseMilliseconds = 150;

/**
 * A reader who looks at the tables all the time, at REPEATABLE READ, and compares what it sees with
 * what it saw before and with what the ledger says in the same snapshot.
 */
export class Watcher {
  readonly violations: string[] = [];
  looks = 0;
  /** Final rows that it saw change: else the check of finality would prove nothing. */
  correctionsSeen = 0;
  finalsSeen = 0;
  readonly #options: WatcherOptions;
  readonly #seen = new Map<string, Seen>();
  readonly #watching: Promise<void>;
  #ending = false;

  constructor(options: WatcherOptions) {
    this.#options = options;
    this.#watching = this.#watch();
  }

  /** Looks a last time, and ends. */
  async end(): Promise<void> {
    this.#ending = true;
    await this.#watching;
  }

  async #watch(): Promise<void> {
    let client: pg.Client | undefined;
    for (let last = false; !last;) {
      last = this.#ending;
      try {
        client ??= await this.#connect();
        await this.#look(client);
        this.looks++;
      } catch (error) {
        await client?.end().catch(() => undefined);
        client = undefined;
        if (!isAbsence(error)) {
          this.#violation(`the watcher failed: ${String(error)}`);
          return;
        }
      }
      if (!last) {
        await pause(pauseMilliseconds);
      }
    }
    await client?.end().catch(() => undefined);
  }

  async #connect(): Promise<pg.Client> {
    const client = new pg.Client({
      connectionString: this.#options.databaseUrl,
      application_name: 'watcher',
      options: '-c TimeZone=UTC -c jit=off',
    });
    client.on('error', () => undefined);
    await client.connect();
    return client;
  }

  async #look(client: pg.Client): Promise<void> {
    await client.query('BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY');
    try {
      await this.#tables(client);
      await this.#snapshot(client);
    } finally {
      await client.query('ROLLBACK');
    }
  }

  /** `final` is never wrong, revisions only grow, no row goes away. */
  async #tables(client: pg.Client): Promise<void> {
    for (const { table, key } of [...this.#options.windows, ...this.#options.keyed]) {
      const { rows } = await client.query<Row>(
        `SELECT jsonb_build_array(${key.join(', ')})::text AS key, status, revision::text,
           (to_jsonb(t) - 'status' - 'revision' - 'updated_at')::text AS values
         FROM public.${table} t`,
      );
      const found = new Map(rows.map((row) => [`${table} ${row.key}`, row]));
      for (const [name] of this.#seen) {
        if (name.startsWith(`${table} `) && !found.has(name)) {
          this.#violation(`${name} has vanished`);
        }
      }
      const changed: string[] = [];
      for (const [name, row] of found) {
        const before = this.#seen.get(name);
        const now = { status: row.status, revision: BigInt(row.revision), values: row.values };
        if (before !== undefined) {
          this.#compare(name, before, now);
          if (before.status !== 'provisional' && before.values !== now.values) {
            changed.push(row.key);
          }
        }
        this.finalsSeen += now.status === 'final' && before?.status !== 'final' ? 1 : 0;
      }
      if (changed.length > 0) {
        this.correctionsSeen += changed.length;
        await this.#recorded(client, table, key, changed, found);
      }
      for (const [name, row] of found) {
        this.#seen.set(name, {
          status: row.status,
          revision: BigInt(row.revision),
          values: row.values,
        });
      }
    }
  }

  #compare(name: string, before: Seen, now: Seen): void {
    const both = `${JSON.stringify(before, text)} → ${JSON.stringify(now, text)}`;
    if (now.revision < before.revision) {
      this.#violation(`the revision of ${name} has fallen: ${both}`);
    }
    if (now.values !== before.values && now.revision === before.revision) {
      this.#violation(`${name} has changed without a new revision: ${both}`);
    }
    if (before.status === 'final' && now.values !== before.values && now.status !== 'corrected') {
      this.#violation(`${name} was final and has changed without being corrected: ${both}`);
    }
    if (before.status === 'final' && now.values === before.values && now.status === 'provisional') {
      this.#violation(`${name} was final and is provisional: ${both}`);
    }
    if (before.status === 'corrected' && now.status !== 'corrected') {
      this.#violation(`${name} was corrected and isn't any more: ${both}`);
    }
  }

  /** Each final row that changed has an entry from what was final to what it is. */
  async #recorded(
    client: pg.Client,
    table: string,
    key: readonly string[],
    changed: readonly string[],
    found: ReadonlyMap<string, Row>,
  ): Promise<void> {
    const members = key.map((column) => `row_key -> '${column}'`).join(', ');
    const { rows } = await client.query<{ key: string; before: string[]; after: string[] }>(
      `SELECT jsonb_build_array(${members})::text AS key,
         array_agg((before ->> 'revision') ORDER BY id) AS before, array_agg((after ->> 'revision') ORDER BY id) AS after
       FROM anabranch.corrections WHERE table_name = $1 AND jsonb_build_array(${members})::text = ANY ($2)
       GROUP BY 1`,
      [table, changed],
    );
    const recorded = new Map(rows.map((row) => [row.key, row]));
    for (const one of changed) {
      const entry = recorded.get(one);
      const name = `${table} ${one}`;
      const before = String(this.#seen.get(name)?.revision);
      const after = found.get(name)?.revision ?? '';
      if (!entry?.before.includes(before) || entry.after.at(-1) !== after) {
        this.#violation(
          `${name} was final at revision ${before} and is at ${after}, and anabranch.corrections has only ${JSON.stringify(entry)}`,
        );
      }
    }
  }

  /** What is applied is applied to all: no snapshot shows one table ahead of another, or of the ledger. */
  async #snapshot(client: pg.Client): Promise<void> {
    const { windows, keyed, appended } = this.#options;
    const sums = [
      ...[...windows, ...keyed].map(
        ({ table }) =>
          `SELECT '${table}' AS t, coalesce(sum(stream_records), 0)::bigint AS s, coalesce(sum(batch_records), 0)::bigint AS b FROM public.${table}`,
      ),
      ...appended.map(
        (table) =>
          `SELECT '${table}', count(*) FILTER (WHERE stream_records = 1), count(*) FILTER (WHERE batch_records = 1) FROM public.${table}`,
      ),
    ].join(' UNION ALL ');
    const { rows } = await client.query(`
      WITH rows AS (${sums}),
      counts AS (
        SELECT table_name AS t, coalesce(sum(aggregated_records) FILTER (WHERE branch = 'stream'), 0)::bigint AS s,
          coalesce(sum(aggregated_records) FILTER (WHERE branch = 'batch'), 0)::bigint AS b
        FROM anabranch.table_counts GROUP BY 1
      )
      SELECT 'rows and counts' AS what, t, rows.s, rows.b, counts.s AS counted_s, counts.b AS counted_b
      FROM rows LEFT JOIN counts USING (t)
      WHERE rows.s <> coalesce(counts.s, 0) OR rows.b <> coalesce(counts.b, 0)
      UNION ALL
      SELECT 'counts and ledger', c.table_name, c.read, l.records, NULL, NULL
      FROM (SELECT table_name, source, branch, sum(read_records)::bigint AS read FROM anabranch.table_counts GROUP BY 1, 2, 3) c
      JOIN (SELECT source, branch, sum(CASE branch WHEN 'stream' THEN stream_records ELSE batch_records END)::bigint AS records
        FROM anabranch.ledger GROUP BY 1, 2) l USING (source, branch)
      WHERE c.read <> l.records
      UNION ALL
      SELECT 'ledger faults', source, partition, from_offset, previous_to, NULL FROM anabranch.ledger_faults
      UNION ALL
      SELECT 'conflict', verdict, from_offset, to_offset, next_offset, NULL FROM anabranch.conflicts
      LIMIT 8`);
    if (rows.length > 0) {
      this.#violation(`a snapshot is torn: ${JSON.stringify(rows)}`);
    }
  }

  #violation(what: string): void {
    if (this.violations.length < 20) {
      this.violations.push(what);
    }
  }
}

const text = (_: string, value: unknown): unknown =>
  typeof value === 'bigint' ? String(value) : value;

/** Postgres is away, or the tables aren't there yet. */
function isAbsence(error: unknown): boolean {
  const code = errorCode(error) ?? '';
  return (
    /^(08|53|57P|42P01|3F000|ECONN|EPIPE|ETIMEDOUT)/.test(code) ||
    /Connection terminated|timeout expired|not queryable|Client was closed/.test(String(error))
  );
}
