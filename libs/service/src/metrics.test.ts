import { describe, expect, test } from 'vitest';
import { createMetrics } from './create-metrics.ts';
import { metricTable } from './metrics.ts';
import type { MetricRow } from './metrics.ts';

const rows: MetricRow[] = Object.values(metricTable);

function valueOf(text: string, sample: string): number {
  const line = text.split('\n').find((found) => found.startsWith(`${sample} `));
  return Number(line?.slice(sample.length));
}

describe('the table of metrics', () => {
  test('follows the rules of Prometheus for names', () => {
    for (const { name, kind, labels, help, optional = [] } of rows) {
      expect(name).toMatch(/^anabranch_[a-z]+(_[a-z]+)*$/);
      expect(name.endsWith('_total')).toBe(kind === 'counter');
      expect(help).toMatch(/^[A-Z].*[^ ]\.$|not 0\.$/);
      expect(Object.keys(labels)).toEqual(expect.arrayContaining([...optional]));
    }
    expect(new Set(rows.map(({ name }) => name)).size).toBe(rows.length);
  });

  test('is what a scrape shows, whole', async () => {
    const text = await createMetrics('ingest', '1.2.3').page.text();
    const shown = [...text.matchAll(/^# TYPE (\S+) (\S+)$/gm)].map(([, name, kind]) => [
      name,
      kind,
    ]);
    expect(shown).toEqual(rows.map(({ name, kind }) => [name, kind]));
  });
});

describe('a scrape', () => {
  test('shows what was counted, with its labels', async () => {
    const metrics = createMetrics('ingest', '1');
    metrics.recordsTotal.inc({ source: 'orders', fate: 'stream' }, 5);
    metrics.recordsTotal.inc({ source: 'orders', fate: 'filtered', table: 't' }, 2);
    metrics.rebuildsTotal.inc({});
    const text = await metrics.page.text();
    expect(text).toContain('anabranch_records_total{source="orders",fate="stream"} 5\n');
    expect(text).toContain(
      'anabranch_records_total{source="orders",fate="filtered",table="t"} 2\n',
    );
    expect(text).toContain('anabranch_rebuilds_total 1\n');
    expect(text).toMatch(/anabranch_info\{service="ingest",version="1",node="v\d+/);
  });

  test('takes labels only from the table', () => {
    const metrics = createMetrics('ingest', '1');
    // @ts-expect-error: a fate that the table doesn't list.
    metrics.recordsTotal.inc({ source: 'orders', fate: 'lost' });
    // @ts-expect-error: a label that isn't optional.
    metrics.recordsTotal.inc({ fate: 'dead' });
    expect(() => {
      // @ts-expect-error: a label that the table doesn't have.
      metrics.transactionsTotal.inc({ outcome: 'committed', key: 'x' });
    }).toThrow('key');
  });

  test('mirrors the state as it is then, and forgets partitions that have moved away', async () => {
    const metrics = createMetrics('fusion', '1');
    let partitions = [0, 1];
    metrics.page.beforeScrape(() => {
      metrics.lagSeconds.reset();
      for (const partition of partitions) {
        metrics.lagSeconds.set({ source: 'orders', partition }, 0.5);
      }
    });
    expect(await metrics.page.text()).toContain('{source="orders",partition="1"} 0.5\n');
    partitions = [0];
    const text = await metrics.page.text();
    expect(text).toContain('{source="orders",partition="0"} 0.5\n');
    expect(text).not.toContain('partition="1"');
  });

  test('measures the process', async () => {
    const metrics = createMetrics('fusion', '1');
    const before = await metrics.page.text();
    expect(valueOf(before, 'anabranch_rss_bytes')).toBeGreaterThan(1e7);
    expect(valueOf(before, 'anabranch_heap_bytes{part="used"}')).toBeGreaterThan(1e6);
    const until = process.cpuUsage().user + 50_000;
    while (process.cpuUsage().user < until) {
      // Burns the processor time that the next scrape should show.
    }
    const after = await metrics.page.text();
    const cpu = 'anabranch_cpu_seconds_total{mode="user"}';
    expect(valueOf(after, cpu) - valueOf(before, cpu)).toBeGreaterThanOrEqual(0.049);
    expect(valueOf(after, cpu)).toBeLessThanOrEqual(process.cpuUsage().user / 1e6);
    expect(valueOf(after, 'anabranch_event_loop_utilization')).toBeGreaterThan(0);
    expect(
      valueOf(after, 'anabranch_event_loop_delay_seconds{quantile="1"}'),
    ).toBeGreaterThanOrEqual(0);
  });
});
