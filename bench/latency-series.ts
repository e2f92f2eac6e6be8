import path from 'node:path';
import { rmSync } from 'node:fs';
import type { Bench } from './bench-session.ts';
import { Chain } from './chain.ts';
import { type Latency, measureLatency } from './latency.ts';
import { formatCount, formatNumber, markdown } from './markdown.ts';
import { summary } from './peers/series.ts';
import { measureThroughput, perMillion } from './throughput.ts';
import { workloads } from './workloads.ts';

export interface LatencySeriesOptions {
  readonly latencies: readonly string[];
  /** In the filled topic, by which the sustained rate is measured. */
  readonly records: number;
  readonly partitions: number;
  /** Of probing, at each rate. */
  readonly seconds: number;
  /** Records a second, besides the shares of the sustained rate. */
  readonly rates: readonly number[];
}

export interface LatencyPoint {
  /** The table's goal. */
  readonly latency: string;
  readonly share: number | null;
  readonly measured: Latency;
}

const shares = [0.25, 0.5, 0.8] as const;

/** Measures windows (w2) at shares of the rate that they sustain, and at given rates. */
export async function runLatency(
  bench: Bench,
  options: LatencySeriesOptions,
): Promise<LatencyPoint[]> {
  const { latencies, records, partitions, seconds } = options;
  const points: LatencyPoint[] = [];
  await bench.withServers(async (servers) => {
    for (const latency of latencies) {
      const filled = await bench.fill(servers, { records, partitions });
      const { topic } = filled;
      const directory = path.join(bench.directory, `latency-${latency}`);
      const { settings } = bench;
      const chain = await Chain.open(servers, {
        directory,
        topic,
        workload: workloads.w2,
        latency,
        settings,
      });
      try {
        const throughput = await measureThroughput(servers, chain, filled, (message) => {
          bench.show(`latency ${latency}: ${message}`);
        });
        bench.say(`latency ${latency}: ${summary(throughput)}`);
        const sustained = throughput.warmRecordsPerSecond;
        const rates = [
          ...shares.map((share) => ({ share, rate: share * sustained })),
          ...options.rates.map((rate) => ({ share: null, rate })),
        ];
        for (const { share, rate } of rates) {
          const measured = await measureLatency(servers, chain, filled, {
            rate,
            seconds,
            onProgress: bench.show,
          });
          points.push({ latency, share, measured });
          bench.say(
            `latency ${latency}: p50 ${measured.p50.toFixed(0)} ms, p99 ${measured.p99.toFixed(0)} ms at ${formatCount(measured.producedPerSecond)} records/s (${measured.probes} probes); every row is right`,
          );
          if (measured.producedPerSecond < 0.95 * rate) {
            bench.say(`${formatCount(rate)} records/s were wanted, and not reached`);
          }
        }
      } finally {
        await chain.close();
        await filled.remove();
      }
      rmSync(directory, { recursive: true, force: true });
    }
  });
  return points;
}

export function latencyReport(points: readonly LatencyPoint[]): string {
  const what = ({ latency, share, measured }: LatencyPoint): string[] => [
    latency,
    share === null ? '–' : `${share * 100} %`,
    formatCount(measured.producedPerSecond),
  ];
  const milliseconds = (value: number | undefined): string => formatNumber(value, 0);
  const hops = markdown(
    [
      'goal',
      'of sustained',
      'at /s',
      'probes',
      'p50 ms',
      'p99 ms',
      'ingest p50',
      'p99',
      'processor p50',
      'p99',
      'fusion p50',
      'p99',
      'CPU-s/million',
    ],
    points.map((point) => [
      ...what(point),
      String(point.measured.probes),
      milliseconds(point.measured.p50),
      milliseconds(point.measured.p99),
      ...point.measured.hops.flatMap(({ p50, p99 }) => [milliseconds(p50), milliseconds(p99)]),
      formatNumber(perMillion(point.measured.cost, point.measured.records), 2),
    ]),
  );
  const steps = markdown(
    ['goal', 'of sustained', 'at /s', 'service', 'steps', 'load', 'preprocess', 'process', 'store'],
    points.flatMap((point) =>
      point.measured.steps
        .filter((stage) => stage.steps > 0)
        .map((stage) => [
          ...what(point),
          stage.service,
          formatCount(stage.steps),
          ...(['load', 'preprocess', 'process', 'store'] as const).map((name) =>
            formatNumber((stage[name] / stage.steps) * 1000, 1),
          ),
        ]),
    ),
  );
  return `${hops}\n\nA step on average, in milliseconds of the clock:\n\n${steps}\n`;
}
