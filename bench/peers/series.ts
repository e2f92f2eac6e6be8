import path from 'node:path';
import { rmSync } from 'node:fs';
import type { Bench } from '../bench-session.ts';
import { Chain } from '../chain.ts';
import type { Contender } from '../contender.ts';
import type { FilledTopic } from '../filled-topic.ts';
import { goalsTable, judge, memoryOf, type Trial } from '../goals.ts';
import {
  formatCount,
  formatMegabytes,
  formatNumber,
  formatPercent,
  markdown,
  sections,
} from '../markdown.ts';
import { median } from '../statistics.ts';
import { measureThroughput, perMillion, type Throughput } from '../throughput.ts';
import { type WorkloadName, workloads } from '../workloads.ts';
import { type Flink, flinkCommand, prepareFlink } from './flink/command.ts';
import { nodeCommand } from './node/command.ts';
import { type Flush, Peer, type PeerName, type PeerWorkload } from './peer.ts';

/** What runs in turn: each of ours with its latency goal, each peer with how long it may gather. */
type Entry =
  | {
      readonly of: 'ours';
      readonly workload: WorkloadName;
      readonly latency: string;
      readonly name: string;
    }
  | {
      readonly of: PeerName;
      readonly workload: PeerWorkload;
      readonly flush: Flush;
      readonly name: string;
    };

const series: Readonly<Record<PeerWorkload, readonly Entry[]>> = {
  w2: [
    { of: 'ours', workload: 'w2', latency: '1s', name: 'ours w2 1s' },
    { of: 'node', workload: 'w2', flush: 1000, name: 'node w2' },
    { of: 'flink', workload: 'w2', flush: 1000, name: 'flink w2 1s' },
    { of: 'ours', workload: 'w2', latency: '250ms', name: 'ours w2 250ms' },
    { of: 'flink', workload: 'w2', flush: 200, name: 'flink w2 200ms' },
  ],
  w1: [
    { of: 'ours', workload: 'w1k', latency: '1s', name: 'ours w1k' },
    { of: 'node', workload: 'w1', flush: 1000, name: 'node w1' },
    { of: 'ours', workload: 'w1', latency: '1s', name: 'ours w1' },
    { of: 'flink', workload: 'w1', flush: 1000, name: 'flink w1' },
  ],
};

export interface PeersOptions {
  readonly peers: readonly PeerName[];
  readonly workloads: readonly PeerWorkload[];
  readonly records: number;
  readonly partitions: number;
  readonly repeat: number;
}

/** Runs ours and the peers in turn, on one broker and one Postgres, each with the same records. */
export async function runPeers(bench: Bench, options: PeersOptions): Promise<Trial[]> {
  const flink = options.peers.includes('flink')
    ? await prepareFlink(bench.directory, bench.show)
    : undefined;
  const entries = options.workloads
    .flatMap((workload) => series[workload])
    .filter(({ of }) => of === 'ours' || options.peers.includes(of));
  return bench.withServers(async (servers) => {
    const trials: Trial[] = [];
    for (let round = 0; round < options.repeat; round++) {
      for (const entry of entries) {
        // A topic for each, as its second half is withheld; the records are the same.
        const filled = await bench.fill(servers, options);
        const directory = path.join(bench.directory, `${round}-${entry.name.replaceAll(' ', '-')}`);
        const contender = await open(bench, servers, entry, filled, directory, flink);
        try {
          const throughput = await measureThroughput(servers, contender, filled, (message) => {
            bench.show(`${entry.name}: ${message}`);
          });
          trials.push({ round, name: entry.name, throughput });
          bench.say(`${entry.name}: ${summary(throughput)}; every row is right`);
        } finally {
          await contender.close();
          await filled.remove();
        }
        rmSync(directory, { recursive: true, force: true });
      }
    }
    return trials;
  });
}

async function open(
  bench: Bench,
  servers: Parameters<typeof Chain.open>[0],
  entry: Entry,
  { topic, partitions }: FilledTopic,
  directory: string,
  flink: Flink | undefined,
): Promise<Contender> {
  if (entry.of === 'ours') {
    const { latency } = entry;
    const workload = workloads[entry.workload];
    const { settings } = bench;
    return Chain.open(servers, { directory, topic, workload, latency, settings });
  }
  const { of: peer, workload, flush } = entry;
  const options = { directory, topic, partitions, workload, flush };
  return Peer.open(peer, servers, options, (databaseUrl) => {
    if (flink !== undefined && peer === 'flink') {
      return flinkCommand(flink, servers.brokers, databaseUrl, options);
    }
    return nodeCommand(servers.brokers, databaseUrl, options);
  });
}

export function summary(throughput: Throughput): string {
  const { warmCost, warmRecords, warmRecordsPerSecond, recordsPerSecond } = throughput;
  const cpu = formatNumber(perMillion(warmCost, warmRecords), 2);
  return `${formatCount(recordsPerSecond)} records/s, ${formatCount(warmRecordsPerSecond)}/s and ${cpu} CPU-s per million in the second half`;
}

export function peersReport(trials: readonly Trial[]): string {
  const names = [...new Set(trials.map(({ name }) => name))];
  const of = (name: string): Throughput[] =>
    trials.filter((trial) => trial.name === name).map(({ throughput }) => throughput);
  const middle = (name: string, pick: (throughput: Throughput) => number | null): number =>
    median(of(name).map((throughput) => pick(throughput) ?? Number.NaN));
  const servers = new Set(['broker', 'postgres']);
  const part = ({ warmCost, warmRecords }: Throughput, isPart: (name: string) => boolean) => {
    const costs = Object.entries(warmCost).filter(([name]) => isPart(name));
    return perMillion(Object.fromEntries(costs), warmRecords);
  };
  const cells = (name: string, isPart: (process: string) => boolean): string =>
    formatNumber(
      middle(name, (throughput) => part(throughput, isPart)),
      2,
    );
  return sections([
    ['Ratios to the peers, of runs in turn', goalsTable(judge(trials))],
    [
      'Medians: records/s, CPU-seconds per million records, peak memory of all processes',
      markdown(
        [
          'contender',
          'runs',
          'records',
          'whole run /s',
          'warm /s',
          'app',
          'broker',
          'postgres',
          'all',
          'all with start',
          'MB',
          'others’ CPU',
        ],
        names.map((name) => [
          name,
          String(of(name).length),
          formatCount(middle(name, ({ records }) => records)),
          formatCount(middle(name, ({ recordsPerSecond }) => recordsPerSecond)),
          formatCount(middle(name, ({ warmRecordsPerSecond }) => warmRecordsPerSecond)),
          cells(name, (process) => !servers.has(process)),
          cells(name, (process) => process === 'broker'),
          cells(name, (process) => process === 'postgres'),
          cells(name, () => true),
          formatNumber(
            middle(name, ({ cost, records }) => perMillion(cost, records)),
            2,
          ),
          formatMegabytes(middle(name, memoryOf)),
          formatPercent(middle(name, ({ othersShare }) => othersShare)),
        ]),
      ),
    ],
    [
      'Ours by service: CPU-seconds per million records, warm second half',
      markdown(
        ['workload', 'ingest', 'stream-processor', 'batch-processor', 'fusion'],
        names
          .filter((name) => name.startsWith('ours'))
          .map((name) => [
            name,
            ...['ingest', 'stream-processor', 'batch-processor', 'fusion'].map((service) =>
              cells(name, (process) => process === service),
            ),
          ]),
      ),
    ],
  ]);
}
