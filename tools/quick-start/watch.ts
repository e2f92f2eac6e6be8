import type { Kafka } from '@anabranch/kafka';
import type pg from 'pg';
import type { Value } from './screen.ts';

export interface Progress {
  /** Source records that the stream and the batch branch have accounted for. */
  readonly stream: number;
  readonly batch: number;
  /** Rows of the example's tables. */
  readonly rows: number;
  readonly windows: number;
  readonly provisional: number;
  readonly corrected: number;
}

/** What a window's row said at one time. */
export interface Sighting extends Readonly<Record<string, Value>> {
  readonly status: string;
  readonly revision: string;
  readonly records: string;
  readonly total: string;
  readonly stream_records: string;
  readonly batch_records: string;
}

/** Looks at Postgres as a user would, and remembers what each window's row has said. */
export class Watch {
  readonly #pool: pg.Pool;
  readonly #kafka: Kafka;
  readonly #topic: string;
  readonly #histories = new Map<string, Sighting[]>();

  constructor(pool: pg.Pool, kafka: Kafka, topic: string) {
    this.#pool = pool;
    this.#kafka = kafka;
    this.#topic = topic;
  }

  async query<T extends pg.QueryResultRow = Record<string, Value>>(sql: string): Promise<T[]> {
    return (await this.#pool.query<T>(sql)).rows;
  }

  async look(): Promise<Progress> {
    const windows = await this.query<Sighting & { window_start: Date; region: string }>(
      `SELECT window_start, region, status, revision, records, total, stream_records, batch_records FROM per_minute`,
    );
    for (const { window_start, region, ...sighting } of windows) {
      const key = `${window_start.toISOString().slice(11, 16)} ${region}`;
      const history = this.#histories.get(key) ?? [];
      this.#histories.set(key, history);
      const last = history.at(-1);
      if (last?.status !== sighting.status || last.revision !== sighting.revision) {
        history.push(sighting);
      }
    }
    const [counts] = await this.query<{ stream: string; batch: string; rows: string }>(`
      SELECT coalesce(sum(stream_records + batch_records + dead_records) FILTER (WHERE branch = 'stream'), 0) AS stream,
             coalesce(sum(stream_records + batch_records + dead_records) FILTER (WHERE branch = 'batch'), 0) AS batch,
             (SELECT count(*) FROM clean_rows) AS rows
      FROM anabranch.ledger WHERE source = 'orders'`);
    return {
      stream: Number(counts?.stream),
      batch: Number(counts?.batch),
      rows: Number(counts?.rows),
      windows: windows.length,
      provisional: windows.filter(({ status }) => status === 'provisional').length,
      corrected: windows.filter(({ status }) => status === 'corrected').length,
    };
  }

  /** Whether both branches have accounted for everything that is in the topic. */
  async isThrough(): Promise<boolean> {
    const ends = await this.#kafka.admin.offsets(this.#topic);
    const frontier = await this.query<{ partition: number; next_offset: string | null }>(
      `SELECT partition, next_offset FROM anabranch.frontier WHERE source = 'orders'`,
    );
    return ends.every(({ partition, latest }) => {
      const branches = frontier.filter((row) => row.partition === partition);
      return (
        branches.length === 2 &&
        branches.every(({ next_offset }) => BigInt(next_offset ?? -1) >= latest)
      );
    });
  }

  /** A window that went from provisional to final, and how; null: none was seen doing it. */
  becameFinal(): { window: string; history: Sighting[] } | null {
    return this.#find((history) => {
      const statuses = history.map(({ status }) => status);
      return (
        statuses.at(-1) === 'final' &&
        statuses.filter((status) => status === 'provisional').length >= 2
      );
    });
  }

  /** A window that was final and then corrected. */
  wasCorrected(): { window: string; history: Sighting[] } | null {
    return this.#find((history) => {
      const final = history.findIndex(({ status }) => status === 'final');
      return final >= 0 && history.slice(final).some(({ status }) => status === 'corrected');
    });
  }

  #find(matches: (history: Sighting[]) => boolean): { window: string; history: Sighting[] } | null {
    for (const [window, history] of this.#histories) {
      if (matches(history)) {
        return { window, history };
      }
    }
    return null;
  }
}
