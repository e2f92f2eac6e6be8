import { serviceNames } from '@anabranch/servers';
import type { StageCost } from './chain.ts';
import type { Latency } from './latency.ts';
import {
  formatCount,
  formatMegabytes,
  formatNumber,
  formatPercent,
  markdown,
  sections,
} from './markdown.ts';
import { serverNames } from './servers.ts';
import { type Costs, perMillion, type Throughput } from './throughput.ts';

/** One run of our services. */
export interface WorkloadResult {
  readonly workload: string;
  readonly throughput: Throughput;
  readonly latency: Latency | null;
  readonly walBytes: number;
  readonly stages: readonly StageCost[];
}

export const components = [...serviceNames, ...serverNames] as const;

/** All figures as Markdown tables, aligned for a terminal. */
export function workloadReport(results: readonly WorkloadResult[]): string {
  const probed = results.filter(({ latency }) => latency !== null);
  return sections([
    ['Records per second to committed rows, and latency at half of the warm rate', rates(results)],
    [
      'CPU-seconds per million records, whole run with the start of the processes',
      costs(results, ({ throughput: { cost, records } }) => ({ cost, records })),
    ],
    [
      'CPU-seconds per million records, warm second half',
      costs(results, ({ throughput: { warmCost, warmRecords } }) => ({
        cost: warmCost,
        records: warmRecords,
      })),
    ],
    ...(probed.length === 0 ? [] : [halfRate(probed)]),
    ['Peak resident memory, MB', memory(results)],
    ['Where the steps spend their time: microseconds of the clock per record', stages(results)],
    ['Where the CPU goes: shares of the threads, warm second half', threads(results)],
  ]);
}

function halfRate(results: readonly WorkloadResult[]): [title: string, table: string] {
  return [
    'CPU-seconds per million records, at half of the warm rate',
    costs(results, ({ latency }) => latency && { cost: latency.cost, records: latency.records }),
  ];
}

function rates(results: readonly WorkloadResult[]): string {
  return markdown(
    [
      'workload',
      'records',
      'whole run /s',
      'warm /s',
      'first row s',
      'p50 ms',
      'p99 ms',
      'at /s',
      'WAL B/record',
      'others’ CPU',
    ],
    results.map(({ workload, throughput, latency, walBytes }) => [
      workload,
      formatCount(throughput.records),
      formatCount(throughput.recordsPerSecond),
      formatCount(throughput.warmRecordsPerSecond),
      formatNumber(throughput.startSeconds, 1),
      formatNumber(latency?.p50, 0),
      formatNumber(latency?.p99, 0),
      latency === null ? '–' : formatCount(latency.producedPerSecond),
      formatNumber(walBytes / throughput.records, 0),
      formatPercent(throughput.othersShare),
    ]),
  );
}

/** CPU-seconds per million records of each process, and of all. */
export function costCells(cost: Costs, records: number): string[] {
  return [
    ...components.map((name) => {
      const seconds = cost[name]?.seconds;
      return formatNumber(seconds === undefined ? null : (seconds / records) * 1e6, 2);
    }),
    formatNumber(perMillion(cost, records), 2),
  ];
}

function costs(
  results: readonly WorkloadResult[],
  pick: (result: WorkloadResult) => { readonly cost: Costs; readonly records: number } | null,
): string {
  return markdown(
    ['workload', ...components, 'all'],
    results.flatMap((result) => {
      const picked = pick(result);
      return picked === null ? [] : [[result.workload, ...costCells(picked.cost, picked.records)]];
    }),
  );
}

function memory(results: readonly WorkloadResult[]): string {
  return markdown(
    ['workload', ...serviceNames],
    results.map(({ workload, throughput: { peakMemory } }) => [
      workload,
      ...serviceNames.map((name) => formatMegabytes(peakMemory[name] ?? null)),
    ]),
  );
}

function stages(results: readonly WorkloadResult[]): string {
  return markdown(
    [
      'workload',
      'service',
      'steps',
      'records a step',
      'rows a record',
      'load',
      'preprocess',
      'process',
      'store',
      'busy',
    ],
    results.flatMap(({ workload, throughput, stages: measured }) =>
      measured
        .filter(({ records }) => records > 0)
        .map((stage) => {
          const { service, steps, records, rows, load, preprocess, process, store } = stage;
          const each = (seconds: number): string => formatNumber((seconds / records) * 1e6, 2);
          const all = load + preprocess + process + store;
          return [
            workload,
            service,
            formatCount(steps),
            formatCount(records / steps),
            rows === 0 ? '–' : formatNumber(rows / records, 2),
            each(load),
            each(preprocess),
            each(process),
            each(store),
            formatPercent(all / throughput.seconds),
          ];
        }),
    ),
  );
}

const shownThreads = 4;

function threads(results: readonly WorkloadResult[]): string {
  return markdown(
    ['workload', 'process', 'threads'],
    results.flatMap(({ workload, throughput }) =>
      components.flatMap((name) => {
        const cost = throughput.warmCost[name];
        const all = Object.values(cost?.threads ?? {}).reduce((sum, seconds) => sum + seconds, 0);
        if (cost === null || cost === undefined || all === 0) {
          return [];
        }
        const shares = Object.entries(cost.threads)
          .slice(0, shownThreads)
          .map(([thread, seconds]) => `${thread} ${formatPercent(seconds / all)}`);
        return [[workload, name, shares.join(', ')]];
      }),
    ),
  );
}
