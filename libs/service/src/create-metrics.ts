import { monitorEventLoopDelay } from 'node:perf_hooks';
import { Counter, Gauge, Histogram, Registry } from 'prom-client';
import { metricTable } from './metrics.ts';
import type { MetricRow } from './metrics.ts';

type LabelValue<V> = V extends readonly (infer T)[] ? T : string | number;

type Labels<R extends MetricRow> = {
  readonly [L in Exclude<keyof R['labels'], OptionalLabel<R>>]: LabelValue<R['labels'][L]>;
} & { readonly [L in OptionalLabel<R> & keyof R['labels']]?: LabelValue<R['labels'][L]> };

type OptionalLabel<R> = R extends { readonly optional: readonly (infer O)[] } ? O : never;

interface CounterOf<L> {
  inc(labels: L, value?: number): void;
}

interface GaugeOf<L> {
  set(labels: L, value: number): void;
  inc(labels: L, value?: number): void;
  dec(labels: L, value?: number): void;
  /** Forgets all samples, such as those of partitions that have moved away. */
  reset(): void;
}

interface HistogramOf<L> {
  observe(labels: L, value: number): void;
}

type MetricOf<R extends MetricRow> = {
  counter: CounterOf<Labels<R>>;
  gauge: GaugeOf<Labels<R>>;
  histogram: HistogramOf<Labels<R>>;
}[R['kind']];

type Table = typeof metricTable;

export type StepSeconds = MetricOf<Table['stepSeconds']>;

/** A metric per row of `metricTable`, under the row's key, whose labels are checked by the compiler. */
export type Metrics = { readonly [K in keyof Table]: MetricOf<Table[K]> } & {
  readonly page: MetricsPage;
};

/** What `/metrics` shows. */
export class MetricsPage {
  /** For metrics beside those of the table. */
  readonly registry = new Registry();
  readonly #before: (() => void)[] = [];

  /**
   * Runs before each scrape. The place to set gauges that mirror the service's state: reset them and
   * set those that are, so that no sample outlives its partition.
   */
  beforeScrape(update: () => void): void {
    this.#before.push(update);
  }

  async text(): Promise<string> {
    for (const update of this.#before) {
      update();
    }
    return await this.registry.metrics();
  }
}

/** @param version of the service */
export function createMetrics(service: string, version: string): Metrics {
  const page = new MetricsPage();
  const metrics = Object.fromEntries(
    Object.entries<MetricRow>(metricTable).map(([key, row]) => [key, create(row, page.registry)]),
  );
  const typed = { ...metrics, page } as unknown as Metrics;
  observeProcess(typed, service, version);
  return typed;
}

function create(row: MetricRow, registry: Registry): Counter | Gauge | Histogram {
  const { name, help, buckets } = row;
  const common = { name, help, labelNames: Object.keys(row.labels), registers: [registry] };
  switch (row.kind) {
    case 'counter':
      return new Counter(common);
    case 'gauge':
      return new Gauge(common);
    case 'histogram':
      return new Histogram({ ...common, ...(buckets && { buckets: [...buckets] }) });
    default:
      return row.kind satisfies never;
  }
}

/** The histogram holds the time from one look to the next, so that much is no delay. */
const lookMilliseconds = 20;

function observeProcess(metrics: Metrics, service: string, version: string): void {
  metrics.info.set({ service, version, node: process.version }, 1);
  metrics.startSeconds.set({}, performance.timeOrigin / 1000);
  const delay = monitorEventLoopDelay({ resolution: lookMilliseconds });
  delay.enable();
  let cpu = { user: 0, system: 0 };
  let utilization = performance.eventLoopUtilization();
  metrics.page.beforeScrape(() => {
    const total = process.cpuUsage();
    metrics.cpuSecondsTotal.inc({ mode: 'user' }, (total.user - cpu.user) / 1e6);
    metrics.cpuSecondsTotal.inc({ mode: 'system' }, (total.system - cpu.system) / 1e6);
    cpu = total;

    const memory = process.memoryUsage();
    metrics.rssBytes.set({}, memory.rss);
    metrics.heapBytes.set({ part: 'used' }, memory.heapUsed);
    metrics.heapBytes.set({ part: 'total' }, memory.heapTotal);
    metrics.heapBytes.set({ part: 'buffers' }, memory.external);

    metrics.eventLoopDelaySeconds.set({ quantile: '0.5' }, delaySeconds(delay.percentile(50)));
    metrics.eventLoopDelaySeconds.set({ quantile: '0.99' }, delaySeconds(delay.percentile(99)));
    metrics.eventLoopDelaySeconds.set({ quantile: '1' }, delaySeconds(delay.max));
    delay.reset();

    const now = performance.eventLoopUtilization();
    const share = performance.eventLoopUtilization(now, utilization).utilization;
    metrics.eventLoopUtilization.set({}, share);
    utilization = now;
  });
}

function delaySeconds(nanoseconds: number): number {
  return Math.max(0, nanoseconds / 1e9 - lookMilliseconds / 1e3);
}
