import { components, type PerComponent } from './chain.ts';
import { formatCount, type Latency, sumOf, type Throughput } from './measure.ts';
import type { ProcessCost } from './process-cost.ts';

export interface Result {
  readonly workload: string;
  readonly title: string;
  readonly throughput: Throughput;
  readonly latency: Latency | null;
  /** Bytes. */
  readonly peakMemory: PerComponent<number | null>;
}

/** All figures as Markdown tables, aligned for a terminal. */
export function report(results: readonly Result[]): string {
  const sections: [string, string][] = [
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
    [
      'CPU-seconds per million records, at half of the warm rate',
      costs(results, ({ latency }) => latency && { cost: latency.cost, records: latency.records }),
    ],
    ['Peak resident memory, MB', memory(results)],
    ['Where the steps spend their time: microseconds of the clock per record', stages(results)],
    ['Where the CPU goes: shares of the threads, warm second half', threads(results)],
  ];
  return sections.map(([title, table]) => `**${title}**\n\n${table}\n`).join('\n');
}

function rates(results: readonly Result[]): string {
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
    results.map(({ workload, throughput, latency }) => [
      workload,
      formatCount(throughput.records),
      formatCount(throughput.recordsPerSecond),
      formatCount(throughput.warmRecordsPerSecond),
      throughput.startSeconds.toFixed(1),
      latency === null ? '–' : latency.p50.toFixed(0),
      latency === null ? '–' : latency.p99.toFixed(0),
      latency === null ? '–' : formatCount(latency.producedPerSecond),
      (throughput.walBytes / throughput.records).toFixed(0),
      throughput.othersShare === null ? '–' : `${(throughput.othersShare * 100).toFixed(0)} %`,
    ]),
  );
}

function costs(
  results: readonly Result[],
  pick: (
    result: Result,
  ) => { readonly cost: PerComponent<ProcessCost | null>; readonly records: number } | null,
): string {
  return markdown(
    ['workload', ...components, 'all'],
    results.flatMap((result) => {
      const picked = pick(result);
      if (picked === null) {
        return [];
      }
      const { cost, records } = picked;
      const perMillion = (seconds: number | null | undefined): string =>
        seconds === null || seconds === undefined ? '–' : ((seconds / records) * 1e6).toFixed(2);
      return [
        [
          result.workload,
          ...components.map((name) => perMillion(cost[name]?.seconds)),
          perMillion(sumOf(cost)),
        ],
      ];
    }),
  );
}

function memory(results: readonly Result[]): string {
  return markdown(
    ['workload', ...components],
    results.map(({ workload, peakMemory }) => [
      workload,
      ...components.map((name) => {
        const bytes = peakMemory[name];
        return bytes === null ? '–' : (bytes / 1e6).toFixed(0);
      }),
    ]),
  );
}

function stages(results: readonly Result[]): string {
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
    results.flatMap(({ workload, throughput }) =>
      throughput.stages
        .filter(({ records }) => records > 0)
        .map((stage) => {
          const { service, steps, records, rows, load, preprocess, process, store } = stage;
          const each = (seconds: number): string => ((seconds / records) * 1e6).toFixed(2);
          const all = load + preprocess + process + store;
          return [
            workload,
            service,
            formatCount(steps),
            formatCount(records / steps),
            rows === 0 ? '–' : (rows / records).toFixed(2),
            each(load),
            each(preprocess),
            each(process),
            each(store),
            `${((all / throughput.seconds) * 100).toFixed(0)} %`,
          ];
        }),
    ),
  );
}

const shownThreads = 4;

function threads(results: readonly Result[]): string {
  return markdown(
    ['workload', 'process', 'threads'],
    results.flatMap(({ workload, throughput }) =>
      components.flatMap((name) => {
        const cost = throughput.warmCost[name];
        const all = Object.values(cost?.threads ?? {}).reduce((sum, seconds) => sum + seconds, 0);
        if (cost === null || all === 0) {
          return [];
        }
        const shares = Object.entries(cost.threads)
          .slice(0, shownThreads)
          .map(([thread, seconds]) => `${thread} ${((seconds / all) * 100).toFixed(0)} %`);
        return [[workload, name, shares.join(', ')]];
      }),
    ),
  );
}

/** As Prettier would write it: words to the left, numbers to the right. */
function markdown(head: readonly string[], rows: readonly (readonly string[])[]): string {
  const isNumber = head.map((_, column) =>
    rows.every((row) => /^[\d.,]+( %)?$|^–$/.test(row[column] ?? '')),
  );
  const widths = head.map((title, column) =>
    Math.max(3, title.length, ...rows.map((row) => row[column]?.length ?? 0)),
  );
  const line = (cells: readonly string[]): string =>
    `| ${cells
      .map((cell, i) => (isNumber[i] ? cell.padStart(widths[i] ?? 0) : cell.padEnd(widths[i] ?? 0)))
      .join(' | ')} |`;
  const rule = widths.map((width, i) =>
    isNumber[i] ? `${'-'.repeat(width - 1)}:` : '-'.repeat(width),
  );
  return [line(head), line(rule), ...rows.map(line)].join('\n');
}
