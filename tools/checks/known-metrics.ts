import { type MetricRow, metricTable } from '../../libs/service/src/metrics.ts';
import type { KnownMetric } from './promql.ts';

/** The services, which are also the names of the scrape jobs. */
export const services = ['ingest', 'stream-processor', 'batch-processor', 'fusion'] as const;

/** What Prometheus adds to every sample, or has of its own. */
const targetLabels = [
  ['job', services],
  ['instance', null],
] as const;

/** Every time series that a query may name: those of metricTable as Prometheus stores them, and `up`. */
export function knownMetrics(): ReadonlyMap<string, KnownMetric> {
  const rows: MetricRow[] = Object.values(metricTable);
  return new Map([
    ['up', { kind: 'gauge', labels: new Map<string, readonly string[] | null>(targetLabels) }],
    ...rows.flatMap(seriesOf),
  ]);
}

function seriesOf({ name, kind, labels }: MetricRow): [string, KnownMetric][] {
  const known = new Map<string, readonly string[] | null>([
    ...targetLabels,
    ...Object.entries(labels).map(
      ([label, values]) => [label, typeof values === 'string' ? null : values] as const,
    ),
  ]);
  if (name === metricTable.info.name) {
    known.set('service', services);
  }
  if (kind !== 'histogram') {
    return [[name, { kind, labels: known }]];
  }
  return [
    [`${name}_bucket`, { kind, labels: new Map([...known, ['le', null]]) }],
    [`${name}_sum`, { kind, labels: known }],
    [`${name}_count`, { kind, labels: known }],
  ];
}
