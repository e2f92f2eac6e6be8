/** The stages of a step, as the cost model has them. */
export const stages = ['load', 'preprocess', 'process', 'store'] as const;
export type Stage = (typeof stages)[number];

const branches = ['stream', 'batch'] as const;

const bySource = { source: 'name of the source' } as const;
const byPartition = { ...bySource, partition: 'number of the source partition' } as const;

/** A label has the values that are listed, or a text that says what its values are. */
export interface MetricRow {
  readonly name: string;
  readonly kind: 'counter' | 'gauge' | 'histogram';
  readonly help: string;
  readonly labels: Readonly<Record<string, string | readonly string[]>>;
  /** Labels that a sample may lack. */
  readonly optional?: readonly string[];
  /** Upper bounds of a histogram's buckets. */
  readonly buckets?: readonly number[];
}

/**
 * Every metric of every service: the reference is made from this table. A label's values are bounded
 * by the definition and the partitions, never by data.
 */
export const metricTable = {
  lagRecords: {
    name: 'anabranch_lag_records',
    kind: 'gauge',
    help: 'Messages of the input topic that are committed to it and not yet processed.',
    labels: { ...byPartition, topic: 'name of the input topic' },
  },
  lagSeconds: {
    name: 'anabranch_lag_seconds',
    kind: 'gauge',
    help: 'Age of the newest record that is processed, while there is lag; else 0.',
    labels: byPartition,
  },
  recordsTotal: {
    name: 'anabranch_records_total',
    kind: 'counter',
    help: 'Source records, by what became of them.',
    labels: {
      ...bySource,
      fate: [...branches, 'dead', 'filtered', 'aggregated'],
      table: 'name of the table, where the fate is one of a table',
    },
    optional: ['table'],
  },
  blocksTotal: {
    name: 'anabranch_blocks_total',
    kind: 'counter',
    help: 'Blocks or partials, by what became of them.',
    labels: {
      fate: ['written', 'read', 'applied', 'replayed', 'gap', 'overlap', 'refused', 'damaged'],
    },
  },
  stepSeconds: {
    name: 'anabranch_step_seconds',
    kind: 'histogram',
    help: 'Seconds that the stages of a step took.',
    labels: { stage: stages },
    buckets: [0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 300],
  },
  transactionsTotal: {
    name: 'anabranch_transactions_total',
    kind: 'counter',
    help: 'Transactions, by how they ended.',
    labels: { outcome: ['committed', 'aborted', 'unknown'] },
  },
  rebuildsTotal: {
    name: 'anabranch_rebuilds_total',
    kind: 'counter',
    help: 'Times that a producer or connection was thrown away after an error and made anew.',
    labels: {},
  },
  haltedPartitions: {
    name: 'anabranch_halted_partitions',
    kind: 'gauge',
    help: 'Partitions that stand still until someone looks: alarm when it is not 0.',
    labels: {},
  },
  stoppedSources: {
    name: 'anabranch_stopped_sources',
    kind: 'gauge',
    help: 'Sources that this instance has given up, while it works for the others: alarm when it is not 0.',
    labels: {},
  },
  watermarkSeconds: {
    name: 'anabranch_watermark_seconds',
    kind: 'gauge',
    help: 'Watermark, in seconds since 1970.',
    labels: { ...byPartition, branch: branches },
  },
  splitRecordsTotal: {
    name: 'anabranch_split_records_total',
    kind: 'counter',
    help: 'Records that the split sent to a branch, by the rule that chose it.',
    labels: { ...bySource, rule: 'name of the split rule, or default', branch: branches },
  },
  traceSpansTotal: {
    name: 'anabranch_trace_spans_total',
    kind: 'counter',
    help: 'Spans of traces, by whether the collector took them or there was no room to wait for it.',
    labels: { fate: ['sent', 'dropped'] },
  },
  sustainedRecords: {
    name: 'anabranch_sustained_records_per_second',
    kind: 'gauge',
    help: 'Records a second that this instance sustains, by what its steps have cost.',
    labels: bySource,
  },
  presentRecords: {
    name: 'anabranch_present_records_per_second',
    kind: 'gauge',
    help: 'Records a second that this instance has processed in the last ten seconds or so.',
    labels: bySource,
  },
  instancesAsked: {
    name: 'anabranch_instances_asked',
    kind: 'gauge',
    help: 'Instances, at four fifths of their load, that the rate of this one asks for: the sum over all instances, rounded up, is how many there should be.',
    labels: bySource,
  },
  decisionsTotal: {
    name: 'anabranch_decisions_total',
    kind: 'counter',
    help: 'Decisions by cost that differed from the one before.',
    labels: { ...bySource, kind: ['micro-batch', 'run', 'divert'] },
  },
  gatherSeconds: {
    name: 'anabranch_gather_seconds',
    kind: 'gauge',
    help: 'How long a micro-batch gathers, as decided from the latency goal.',
    labels: bySource,
  },
  runRemainingSeconds: {
    name: 'anabranch_run_remaining_seconds',
    kind: 'gauge',
    help: 'How long the batch run under way is predicted to take still; 0 between runs.',
    labels: bySource,
  },
  streamDelaySeconds: {
    name: 'anabranch_stream_delay_seconds',
    kind: 'gauge',
    help: 'How long the stream-processor is predicted to take for what waits in front of it; where a rule diverts.',
    labels: bySource,
  },
  diverting: {
    name: 'anabranch_diverting',
    kind: 'gauge',
    help: 'Whether the rules that divert hold: 1 or 0.',
    labels: bySource,
  },
  info: {
    name: 'anabranch_info',
    kind: 'gauge',
    help: 'Always 1; its labels say what runs.',
    labels: { service: 'name of the service', version: 'its version', node: "Node's version" },
  },
  startSeconds: {
    name: 'anabranch_start_seconds',
    kind: 'gauge',
    help: 'When the process started, in seconds since 1970.',
    labels: {},
  },
  cpuSecondsTotal: {
    name: 'anabranch_cpu_seconds_total',
    kind: 'counter',
    help: 'Processor seconds of the process, all threads together.',
    labels: { mode: ['user', 'system'] },
  },
  rssBytes: {
    name: 'anabranch_rss_bytes',
    kind: 'gauge',
    help: "Resident memory of the process, DuckDB's included.",
    labels: {},
  },
  heapBytes: {
    name: 'anabranch_heap_bytes',
    kind: 'gauge',
    help: 'Memory of JavaScript: the heap in use, its size, and buffers outside of it.',
    labels: { part: ['used', 'total', 'buffers'] },
  },
  eventLoopDelaySeconds: {
    name: 'anabranch_event_loop_delay_seconds',
    kind: 'gauge',
    help: 'How late JavaScript got to run since the last scrape.',
    labels: { quantile: ['0.5', '0.99', '1'] },
  },
  eventLoopUtilization: {
    name: 'anabranch_event_loop_utilization',
    kind: 'gauge',
    help: 'Share of the time since the last scrape in which JavaScript ran, from 0 to 1.',
    labels: {},
  },
} as const satisfies Record<string, MetricRow>;
