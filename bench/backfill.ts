import { readdirSync, statSync, rmSync } from 'node:fs';
import path from 'node:path';
import type { Bench } from './bench-session.ts';
import { Chain } from './chain.ts';
import { formatCount, formatMegabytes, formatNumber, markdown } from './markdown.ts';
import { summary } from './peers/series.ts';
import { measureThroughput, perMillion, type Throughput } from './throughput.ts';
import { costCells } from './workload-report.ts';
import { workloads } from './workloads.ts';

export interface BackfillOptions {
  /** Through the batch branch. */
  readonly records: number;
  readonly partitions: number;
}

export interface Backfill {
  /** A tenth of the records through the stream branch, `latency: 1s`, to compare with. */
  readonly stream: Throughput;
  readonly batch: Throughput;
  /** Bytes, the most that was seen. */
  readonly spill: number;
}

const lookMilliseconds = 250;

/** Fills a topic and lets all of it go through the batch branch. */
export async function runBackfill(bench: Bench, options: BackfillOptions): Promise<Backfill> {
  const { records, partitions } = options;
  // As many windows a record in both.
  const tenth = Math.ceil(records / 10);
  return bench.withServers(async (servers) => {
    const measure = async (
      branch: 'stream' | 'batch',
      total: number,
    ): Promise<{ throughput: Throughput; spill: number }> => {
      const filled = await bench.fill(servers, { records: tenth, total, partitions });
      const directory = path.join(bench.directory, `backfill-${branch}`);
      const chain = await Chain.open(servers, {
        directory,
        topic: filled.topic,
        workload: branch === 'batch' ? workloads.w2b : workloads.w2,
        latency: '1s',
        // A run takes what has come by the time it begins.
        batch: '{ every: 5s, backlog: 64MiB }',
        settings: bench.settings,
      });
      let spill = 0;
      const looks = setInterval(() => {
        spill = Math.max(spill, bytesUnder(path.join(directory, 'services')));
      }, lookMilliseconds);
      try {
        const throughput = await measureThroughput(servers, chain, filled, (message) => {
          bench.show(`backfill, ${branch} branch: ${message}`);
        });
        bench.say(`${branch} branch: ${summary(throughput)}; every row is right`);
        return { throughput, spill };
      } finally {
        clearInterval(looks);
        await chain.close();
        await filled.remove();
        rmSync(directory, { recursive: true, force: true });
      }
    };
    const { throughput: stream } = await measure('stream', tenth);
    const { throughput: batch, spill } = await measure('batch', records);
    return { stream, batch, spill };
  });
}

/** Of the files in spool folders: what of a run lies on disk. */
function bytesUnder(directory: string): number {
  let sum = 0;
  try {
    for (const entry of readdirSync(directory, { recursive: true, withFileTypes: true })) {
      const file = path.join(entry.parentPath, entry.name);
      if (entry.isFile() && file.includes(`${path.sep}spool.`)) {
        // It may have gone meanwhile.
        sum += statSync(file, { throwIfNoEntry: false })?.size ?? 0;
      }
    }
  } catch {
    // A folder has gone meanwhile: the next look sees more.
  }
  return sum;
}

export function backfillReport({ stream, batch, spill }: Backfill): string {
  const row = (branch: string, throughput: Throughput): string[] => {
    const { records, recordsPerSecond, warmCost, warmRecords, warmRecordsPerSecond } = throughput;
    return [
      branch,
      formatCount(records),
      formatCount(recordsPerSecond),
      formatCount(warmRecordsPerSecond),
      ...costCells(warmCost, warmRecords),
    ];
  };
  const cost = (throughput: Throughput): number =>
    perMillion(throughput.warmCost, throughput.warmRecords) ?? Number.NaN;
  const costs = markdown(
    [
      'branch',
      'records',
      'whole run /s',
      'warm /s',
      'ingest',
      'stream-processor',
      'batch-processor',
      'fusion',
      'broker',
      'postgres',
      'all',
    ],
    [row('stream', stream), row('batch', batch)],
  );
  const limits = markdown(
    ['backfill', 'is', 'goal'],
    [
      [
        'CPU per record to the stream’s',
        `${formatNumber(cost(batch) / cost(stream), 2)} ×`,
        '≤ 0.70',
      ],
      [
        'peak memory of the batch-processor, MB',
        formatMegabytes(batch.peakMemory['batch-processor'] ?? null),
        '≤ 537 (512 MiB)',
      ],
      ['most in the spool, MB', formatMegabytes(spill), ''],
    ],
  );
  return `${costs}\n\n${limits}\n`;
}
