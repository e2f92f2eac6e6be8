import { mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { cpus, loadavg, tmpdir, totalmem } from 'node:os';
import path from 'node:path';
import { fileURLToPath } from 'node:url';
import { serviceNames } from '@anabranch/servers';
import { buildServices } from '../tools/build-services.ts';
import { backfillReport, runBackfill } from './backfill.ts';
import { Bench } from './bench-session.ts';
import { growthReport, runGrowth } from './growth.ts';
import { latencyReport, runLatency } from './latency-series.ts';
import { replaceFigures } from './markdown.ts';
import { type Options, readOptions, usage } from './options.ts';
import { peersReport, runPeers } from './peers/series.ts';
import { workloadReport, type WorkloadResult } from './workload-report.ts';
import { runWorkload } from './workload-series.ts';

/** What one series has found: a section of bench/README.md. */
interface Section {
  readonly name: 'workloads' | 'peers' | 'growth' | 'backfill' | 'latency';
  readonly report: string;
  readonly figures: unknown;
}

const options = optionsOrExit();
const stopping = new AbortController();
for (const signal of ['SIGINT', 'SIGTERM'] as const) {
  process.on(signal, () => {
    stopping.abort();
  });
}

process.exit(await main());

async function main(): Promise<number> {
  const directory = mkdtempSync(path.join(tmpdir(), 'anabranch-bench-'));
  if (options.profile !== undefined) {
    for (const service of serviceNames) {
      mkdirSync(path.join(options.profile, service), { recursive: true });
    }
  }
  const bench = new Bench({
    directory,
    brokers: process.env['KAFKA_BROKERS'] || undefined,
    databaseUrl: process.env['DATABASE_URL'] || undefined,
    settings: options.settings,
    signal: stopping.signal,
  });
  try {
    if (!options.built) {
      bench.say('bundling the services');
      buildServices();
    }
    // A section at a time: what was measured is kept when a later one fails.
    const found: Section[] = [];
    for (const section of series(bench)) {
      found.push(await section());
      publish(bench, found);
    }
    rmSync(directory, { recursive: true, force: true });
    return 0;
  } catch (error) {
    if (stopping.signal.aborted) {
      rmSync(directory, { recursive: true, force: true });
      return 130;
    }
    console.error(error instanceof Error ? error.message : error);
    console.error(`Logs are kept in ${directory}`);
    return 1;
  }
}

/** What was asked for, in the order in which it runs. */
function series(bench: Bench): (() => Promise<Section>)[] {
  const { partitions, repeat, workloads, peers, growth, backfill, latency, latencySeconds } =
    options;
  const wanted: (() => Promise<Section>)[] = [];
  if (workloads !== null) {
    wanted.push(async () => {
      const results: WorkloadResult[] = [];
      for (const name of Array.from({ length: repeat }, () => workloads).flat()) {
        const { records = 1_000_000, rate } = options;
        const plain = { records, partitions, latencySeconds, rate };
        results.push(await runWorkload(bench, name, plain));
      }
      return { name: 'workloads', report: workloadReport(results), figures: results };
    });
  }
  if (peers !== null) {
    wanted.push(async () => {
      const { names, workloads: ofPeers } = peers;
      const { records = 1_000_000 } = options;
      const trials = await runPeers(bench, {
        peers: names,
        workloads: ofPeers,
        records,
        partitions,
        repeat,
      });
      return { name: 'peers', report: peersReport(trials), figures: trials };
    });
  }
  if (latency) {
    wanted.push(async () => {
      const { rate = 20_000 } = options;
      const points = await runLatency(bench, {
        latencies: ['1s', '250ms'],
        records: recordsOf(1_000_000),
        partitions,
        seconds: latencySeconds,
        rates: [rate],
      });
      return { name: 'latency', report: latencyReport(points), figures: points };
    });
  }
  if (backfill) {
    wanted.push(async () => {
      const result = await runBackfill(bench, { records: recordsOf(10_000_000), partitions });
      return { name: 'backfill', report: backfillReport(result), figures: result };
    });
  }
  if (growth !== null) {
    wanted.push(async () => {
      const points = await runGrowth(bench, {
        dimensions: growth,
        records: recordsOf(500_000),
        partitions,
      });
      return { name: 'growth', report: growthReport(points), figures: points };
    });
  }
  return wanted;
}

/** With --full, --records is that of the peers: each other series keeps its own. */
function recordsOf(usual: number): number {
  return options.full ? usual : (options.records ?? usual);
}

function publish(bench: Bench, found: readonly Section[]): void {
  const last = found.at(-1);
  if (last === undefined) {
    return;
  }
  const [cpu] = cpus();
  const machine = {
    date: new Date().toISOString().slice(0, 10),
    cpu: cpu?.model ?? 'unknown',
    cores: cpus().length,
    memory: totalmem(),
    node: process.version,
    load: loadavg()[0] ?? 0,
  };
  const where = `${machine.date}, ${machine.cores} × ${machine.cpu}, ${(machine.memory / 1e9).toFixed(0)} GB, Node ${machine.node}, ${options.partitions} partitions; everything on this one machine.`;
  const text = `${where}\n\n${last.report}`;
  console.log(`\n${last.name}: ${text}`);
  if (options.json !== undefined) {
    const figures = Object.fromEntries(found.map(({ name, figures: own }) => [name, own]));
    writeFileSync(options.json, `${JSON.stringify({ machine, ...figures }, null, 2)}\n`);
    bench.say(`all figures are in ${options.json}`);
  }
  if (options.readme) {
    const file = fileURLToPath(new URL('README.md', import.meta.url));
    writeFileSync(file, replaceFigures(readFileSync(file, 'utf8'), last.name, text));
  }
}

function optionsOrExit(): Options {
  try {
    const read = readOptions(process.argv.slice(2));
    if (read !== null) {
      return read;
    }
    console.log(usage);
  } catch (error) {
    console.error(`${(error as Error).message}\n\n${usage}`);
    process.exit(64);
  }
  process.exit(0);
}
