import path from 'node:path';
import { rmSync } from 'node:fs';
import type pg from 'pg';
import type { Bench } from './bench-session.ts';
import { Chain } from './chain.ts';
import { formatCount, formatNumber, markdown } from './markdown.ts';
import {
  defaultCustomers,
  eventMinutes,
  firstStranger,
  startsAt,
  windowMilliseconds,
} from './orders.ts';
import { summary } from './peers/series.ts';
import type { BenchServers } from './servers.ts';
import { measureThroughput, perMillion, type Throughput } from './throughput.ts';
import { costCells } from './workload-report.ts';
import { table, workloads } from './workloads.ts';

/** What grows, one at a time, while the others stay at their usual. */
export const dimensions = {
  partitions: [1, 4, 16, 64],
  keys: [1_000, 10_000, 100_000, 1_000_000],
  tables: [1, 2, 5, 10],
  rows: [0, 100_000, 1_000_000, 10_000_000],
  instances: [1, 2],
} as const;

export type Dimension = keyof typeof dimensions;

export interface GrowthOptions {
  readonly dimensions: readonly Dimension[];
  readonly records: number;
  readonly partitions: number;
}

export interface GrowthPoint {
  readonly dimension: Dimension;
  readonly value: number;
  readonly throughput: Throughput;
}

/** Measures windows (w2, `latency: 1s`) at each size of each dimension. */
export async function runGrowth(bench: Bench, options: GrowthOptions): Promise<GrowthPoint[]> {
  return bench.withServers(async (servers) => {
    const points: GrowthPoint[] = [];
    for (const dimension of options.dimensions) {
      for (const value of dimensions[dimension]) {
        const throughput = await measurePoint(bench, servers, options, dimension, value);
        points.push({ dimension, value, throughput });
        bench.say(`${dimension} ${formatCount(value)}: ${summary(throughput)}; every row is right`);
      }
    }
    return points;
  });
}

async function measurePoint(
  bench: Bench,
  servers: BenchServers,
  options: GrowthOptions,
  dimension: Dimension,
  value: number,
): Promise<Throughput> {
  const size = (name: Dimension, usual: number): number => (dimension === name ? value : usual);
  const partitions = size('partitions', options.partitions);
  const customers = size('keys', defaultCustomers);
  const filled = await bench.fill(servers, { records: options.records, partitions, customers });
  const directory = path.join(bench.directory, `${dimension}-${value}`);
  const chain = await Chain.open(servers, {
    directory,
    topic: filled.topic,
    workload: workloads.w2,
    latency: '1s',
    tables: size('tables', 1),
    instances: size('instances', 1),
    settings: bench.settings,
  });
  try {
    const rows = size('rows', 0);
    if (rows > 0) {
      bench.show(`${formatCount(rows)} rows are put into the table`);
      await chain.makeTables();
      await addStrangers(chain.database.pool, rows);
    }
    return await measureThroughput(servers, chain, filled, (message) => {
      bench.show(`${dimension} ${formatCount(value)}: ${message}`);
    });
  } finally {
    await chain.close();
    await filled.remove();
    rmSync(directory, { recursive: true, force: true });
  }
}

/**
 * Fills a table of windows with rows of other customers, in the same windows as those of the records, so
 * that the rows to come are inserted in between.
 */
async function addStrangers(db: pg.Pool, rows: number): Promise<void> {
  const { rows: columns } = await db.query<{ name: string; type: string }>(
    `SELECT attname AS name, format_type(atttypid, atttypmod) AS type FROM pg_attribute
      WHERE attrelid = 'anabranch.state_${table}'::regclass AND attnum > 0 AND NOT attisdropped
        AND NOT atthasdef
      ORDER BY attnum`,
  );
  const firstWindow = startsAt - (startsAt % windowMilliseconds);
  const values: Readonly<Record<string, string>> = {
    _window_start: `timestamptz 'epoch' + (${firstWindow} + (i % ${eventMinutes}) * ${windowMilliseconds}) * interval '1 millisecond'`,
    customer_id: `${firstStranger} + i / ${eventMinutes}`,
  };
  const fillers: Readonly<Record<string, string>> = {
    'timestamp with time zone': 'now()',
    boolean: 'false',
  };
  const expressions = columns.map(({ name, type }) => values[name] ?? fillers[type] ?? '1');
  await db.query(
    `INSERT INTO anabranch.state_${table} (${columns.map(({ name }) => `"${name}"`).join(', ')})
      SELECT ${expressions.join(', ')} FROM generate_series(0, ${rows - 1}) i`,
  );
  await db.query(`VACUUM ANALYZE anabranch.state_${table}`);
}

/** A table per dimension: what a million records cost at each size, and how many times as much as at the first. */
export function growthReport(points: readonly GrowthPoint[]): string {
  return (Object.keys(dimensions) as Dimension[])
    .map((dimension) => points.filter((point) => point.dimension === dimension))
    .filter((own) => own.length > 0)
    .map((own) => {
      const [first] = own;
      const base = first && perMillion(first.throughput.warmCost, first.throughput.warmRecords);
      return markdown(
        [
          first?.dimension ?? '',
          'warm /s',
          'ingest',
          'stream-processor',
          'batch-processor',
          'fusion',
          'broker',
          'postgres',
          'all',
          'to the first',
        ],
        own.map(({ value, throughput: { warmCost, warmRecords, warmRecordsPerSecond } }) => {
          const all = perMillion(warmCost, warmRecords);
          return [
            formatCount(value),
            formatCount(warmRecordsPerSecond),
            ...costCells(warmCost, warmRecords),
            all === null || !base ? '–' : `${formatNumber(all / base, 2)} ×`,
          ];
        }),
      );
    })
    .map((text) => `${text}\n`)
    .join('\n');
}
