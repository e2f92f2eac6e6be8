import { expect, test } from 'vitest';
import { knownMetrics } from './known-metrics.ts';
import { checkQuery } from './promql.ts';

const known = knownMetrics();

test.each([
  ['rate(anabranch_lost_total[5m])', 'there is no metric anabranch_lost_total'],
  ['anabranch_step_seconds', 'there is no metric anabranch_step_seconds'],
  ['anabranch_rss_bytes{source="orders"}', 'anabranch_rss_bytes has no label source'],
  ['anabranch_blocks_total{fate=~"gap|hole"}', 'has no fate hole'],
  ['up{job="fission"}', 'up has no job fission'],
  ['sum by (table) (anabranch_lag_records)', 'nothing to group by table'],
  ['sum without (table) (anabranch_lag_records)', 'nothing to group by table'],
  ['rate(anabranch_lag_records[5m])', 'rate of a gauge'],
  ['delta(anabranch_rebuilds_total[5m])', 'delta of a counter'],
  ['anabranch_lag_records / anabranch_lag_seconds', 'the sides differ in topic'],
  ['anabranch_lag_records and on (branch) up', 'nothing to group by branch'],
  ['histogram_quantile(0.9, rate(anabranch_step_seconds_sum[5m]))', 'nothing to group by le'],
  ['sum(rate(anabranch_rebuilds_total[5m])', 'syntax error at'],
])('%s is refused: %s', (query, fault) => {
  expect(checkQuery(query, known).faults.join('\n')).toContain(fault);
});

test.each([
  ['anabranch_halted_partitions > 0', ['instance', 'job']],
  ['sum(anabranch_rss_bytes)', []],
  ['topk(3, sum by (source) (anabranch_lag_records))', ['source']],
  ['absent(anabranch_info{service="fusion"} offset 5m)', ['service']],
  ['time() - max by (source) (anabranch_watermark_seconds{branch="batch"})', ['source']],
  [
    'histogram_quantile(0.9, sum by (le, stage) (rate(anabranch_step_seconds_bucket[5m])))',
    ['stage'],
  ],
  [
    'sum by (job) (anabranch_rss_bytes) / on (job) group_left (service) anabranch_info',
    ['job', 'service'],
  ],
  ['anabranch_records_total{source=~"$source"} unless anabranch_records_total offset 1h', 5],
])('%s is understood', (query, labels) => {
  const checked = checkQuery(query, known);
  expect(checked.faults).toEqual([]);
  if (typeof labels === 'number') {
    expect(checked.labels.size).toBe(labels);
  } else {
    expect([...checked.labels].toSorted()).toEqual(labels);
  }
});
