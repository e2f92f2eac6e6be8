import path from 'node:path';
import { rmSync } from 'node:fs';
import { setTimeout as pause } from 'node:timers/promises';
import type { Bench } from './bench-session.ts';
import { Chain } from './chain.ts';
import { measureLatency } from './latency.ts';
import { formatCount } from './markdown.ts';
import { summary } from './peers/series.ts';
import { measureThroughput } from './throughput.ts';
import type { WorkloadResult } from './workload-report.ts';
import { type WorkloadName, workloads } from './workloads.ts';

export interface WorkloadOptions {
  readonly records: number;
  readonly partitions: number;
  /** 0: no latency. */
  readonly latencySeconds: number;
  /** Records a second; undefined: half of the warm rate. */
  readonly rate: number | undefined;
}

/** Rate and latency of one workload, on servers of its own. */
export async function runWorkload(
  bench: Bench,
  name: WorkloadName,
  options: WorkloadOptions,
): Promise<WorkloadResult> {
  const workload = workloads[name];
  const { latencySeconds } = options;
  bench.say(`${name}: ${workload.title}`);
  return bench.withServers(async (servers) => {
    const filled = await bench.fill(servers, options);
    const { topic } = filled;
    const directory = path.join(bench.directory, name);
    const { settings } = bench;
    const chain = await Chain.open(servers, { directory, topic, workload, settings });
    try {
      const walBefore = await chain.walBytes();
      const throughput = await measureThroughput(servers, chain, filled, (message) => {
        bench.show(`${name}: ${message}`);
      });
      const walBytes = (await chain.walBytes()) - walBefore;
      // What the last steps cost is written within a second.
      await pause(1500);
      const stages = await chain.stageCosts();
      bench.say(`${name}: ${summary(throughput)}; every row is right`);
      const rate = options.rate ?? throughput.warmRecordsPerSecond / 2;
      const latency =
        latencySeconds === 0
          ? null
          : await measureLatency(servers, chain, filled, {
              rate,
              seconds: latencySeconds,
              onProgress: (message) => {
                bench.show(`${name}: ${message}`);
              },
            });
      if (latency !== null) {
        bench.say(
          `${name}: p50 ${latency.p50.toFixed(0)} ms, p99 ${latency.p99.toFixed(0)} ms at ${formatCount(latency.producedPerSecond)} records/s (${latency.probes} probes); every row is right`,
        );
        if (latency.producedPerSecond < 0.95 * latency.rate) {
          bench.say(`${name}: ${formatCount(latency.rate)} records/s were wanted, and not reached`);
        }
      }
      return { workload: name, throughput, latency, walBytes, stages };
    } finally {
      await chain.close();
      await filled.remove();
      rmSync(directory, { recursive: true, force: true });
    }
  });
}
