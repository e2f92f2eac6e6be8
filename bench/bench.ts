import { mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { cpus, loadavg, tmpdir, totalmem } from 'node:os';
import path from 'node:path';
import { fileURLToPath } from 'node:url';
import { parseArgs } from 'node:util';
import { type ServiceName, serviceNames } from '@anabranch/servers';
import { buildServices } from '../tools/build-services.ts';
import { Chain } from './chain.ts';
import { fill, formatCount, measureLatency, measureThroughput } from './measure.ts';
import { Orders } from './orders.ts';
import { report, type Result } from './report.ts';
import { definitionOf, type WorkloadName, workloads } from './workloads.ts';

const usage = `npm run bench                         measures ${Object.keys(workloads).join(', ')}, one after another
npm run bench -- OPTIONS

--workload NAME        one of them, or all (default); may be given several times
${Object.entries(workloads)
  .map(([name, { title }]) => `                         ${name.padEnd(4)} ${title}`)
  .join('\n')}
--records N            in the filled topic; default 1,000,000
--partitions N         of the source; default 4
--repeat N             the whole series this often; default 1
--latency-seconds N    how long to probe the latency; default 20, 0 leaves it out
--rate N               records a second then; default half of the warm rate
--set SERVICE.NAME=VALUE   a setting of a service, such as stream-processor.STEP_BYTES=4194304
--profile DIRECTORY    CPU profiles of the services' JavaScript, for Chrome's developer tools
--json FILE            all figures
--readme               puts the tables into bench/README.md
--help                 this text

KAFKA_BROKERS and DATABASE_URL name servers of yours to use instead of local ones; what CPU and
memory they take isn't measured then.`;

const options = readOptions();
const stopping = new AbortController();
for (const signal of ['SIGINT', 'SIGTERM'] as const) {
  process.on(signal, () => {
    stopping.abort();
  });
}
let shownAt = 0;

process.exit(await run());

async function run(): Promise<number> {
  const directory = mkdtempSync(path.join(tmpdir(), 'anabranch-bench-'));
  let failed = true;
  try {
    say('bundling the services');
    buildServices();
    const results: Result[] = [];
    const names = Array.from({ length: options.repeat }, () => options.workloads).flat();
    for (const [index, name] of names.entries()) {
      results.push(await measure(name, path.join(directory, `${index}-${name}`)));
    }
    publish(results);
    failed = false;
    return 0;
  } catch (error) {
    if (stopping.signal.aborted) {
      failed = false;
      return 130;
    }
    console.error(error instanceof Error ? error.message : error);
    console.error(`Logs are kept in ${directory}`);
    return 1;
  } finally {
    if (!failed) {
      rmSync(directory, { recursive: true, force: true });
    }
  }
}

async function measure(name: WorkloadName, directory: string): Promise<Result> {
  const workload = workloads[name];
  const { records, partitions, settings, latencySeconds } = options;
  say(`${name}: ${workload.title}`);
  const chain = await Chain.open({
    directory,
    partitions,
    brokers: process.env['KAFKA_BROKERS'] || undefined,
    databaseUrl: process.env['DATABASE_URL'] || undefined,
    definitionOf: (topic) => definitionOf(workload, topic),
    settings,
    onProgress: show,
    signal: stopping.signal,
  });
  try {
    await chain.createTopic();
    const orders = new Orders(records);
    await fill(chain, orders, records, partitions, (made) => {
      stopping.signal.throwIfAborted();
      show(`${name}: the topic has ${formatCount(made)} of ${formatCount(records)} records`);
    });
    const throughput = await measureThroughput(chain, workload, orders, (message) => {
      show(`${name}: ${message}`);
    });
    say(
      `${name}: ${formatCount(throughput.recordsPerSecond)} records/s, ${formatCount(throughput.warmRecordsPerSecond)}/s in the second half; every row is right`,
    );
    const latency =
      latencySeconds === 0
        ? null
        : await measureLatency(chain, workload, orders, {
            rate: options.rate ?? throughput.warmRecordsPerSecond / 2,
            seconds: latencySeconds,
            partitions,
            signal: stopping.signal,
            onProgress: (message) => {
              show(`${name}: ${message}`);
            },
          });
    if (latency !== null) {
      say(
        `${name}: p50 ${latency.p50.toFixed(0)} ms, p99 ${latency.p99.toFixed(0)} ms at ${formatCount(latency.producedPerSecond)} records/s (${latency.probes} probes); every row is right`,
      );
      if (latency.producedPerSecond < 0.95 * latency.rate) {
        say(`${name}: ${formatCount(latency.rate)} records/s were wanted, and not reached`);
      }
    }
    return {
      workload: name,
      title: workload.title,
      throughput,
      latency,
      peakMemory: chain.peakMemory(),
    };
  } finally {
    await chain.close();
    if (options.profile === undefined && !stopping.signal.aborted) {
      rmSync(path.join(directory, 'kafka', 'data'), { recursive: true, force: true });
    }
  }
}

function publish(results: readonly Result[]): void {
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
  const text = `${where}\n\n${report(results)}`;
  console.log(`\n${text}`);
  if (options.json !== undefined) {
    writeFileSync(options.json, `${JSON.stringify({ machine, results }, null, 2)}\n`);
    say(`all figures are in ${options.json}`);
  }
  if (options.readme) {
    const file = fileURLToPath(new URL('README.md', import.meta.url));
    const readme = readFileSync(file, 'utf8');
    const [before, , after] = readme.split(/<!-- figures (?:begin|end) -->/);
    writeFileSync(file, `${before}<!-- figures begin -->\n\n${text}\n<!-- figures end -->${after}`);
  }
}

/** A line that stays. */
function say(message: string): void {
  clear();
  console.log(`${new Date().toISOString().slice(11, 19)} ${message}`);
}

/** What is going on: a line that is overwritten, or one every five seconds where there is no terminal. */
function show(message: string): void {
  const now = performance.now();
  if (process.stdout.isTTY) {
    clear();
    process.stdout.write(message.slice(0, process.stdout.columns - 1));
  } else if (now - shownAt > 5000) {
    shownAt = now;
    console.log(`  ${message}`);
  }
}

function clear(): void {
  if (process.stdout.isTTY) {
    process.stdout.write('\r\u001B[K');
  }
}

function readOptions() {
  try {
    const { values } = parseArgs({
      options: {
        workload: { type: 'string', multiple: true, default: ['all'] },
        records: { type: 'string', default: '1000000' },
        partitions: { type: 'string', default: '4' },
        repeat: { type: 'string', default: '1' },
        'latency-seconds': { type: 'string', default: '20' },
        rate: { type: 'string' },
        set: { type: 'string', multiple: true, default: [] },
        profile: { type: 'string' },
        json: { type: 'string' },
        readme: { type: 'boolean', default: false },
        help: { type: 'boolean', default: false },
      },
    });
    if (values.help) {
      console.log(usage);
      process.exit(0);
    }
    return {
      workloads: values.workload.flatMap(workloadsNamed),
      records: wholeNumber('records', values.records, 1000),
      partitions: wholeNumber('partitions', values.partitions, 1),
      repeat: wholeNumber('repeat', values.repeat, 1),
      latencySeconds: wholeNumber('latency-seconds', values['latency-seconds'], 0),
      rate: values.rate === undefined ? undefined : wholeNumber('rate', values.rate, 1),
      settings: settingsOf(values.set, values.profile),
      profile: values.profile,
      json: values.json,
      readme: values.readme,
    };
  } catch (error) {
    console.error(`${(error as Error).message}\n\n${usage}`);
    process.exit(64);
  }
}

function workloadsNamed(name: string): WorkloadName[] {
  const names = Object.keys(workloads) as WorkloadName[];
  const found = name === 'all' ? names : names.filter((candidate) => candidate === name);
  if (found.length === 0) {
    throw new Error(`--workload is one of ${names.join(', ')}, all: not ${name}`);
  }
  return found;
}

function wholeNumber(name: string, text: string, least: number): number {
  const value = Number(text.replaceAll(/[_,]/g, ''));
  if (!Number.isInteger(value) || value < least) {
    throw new Error(`--${name} is a whole number from ${least} on: not ${text}`);
  }
  return value;
}

function settingsOf(
  given: readonly string[],
  profile: string | undefined,
): Partial<Record<ServiceName, Record<string, string>>> {
  const settings: Partial<Record<ServiceName, Record<string, string>>> = {};
  if (profile !== undefined) {
    const directory = path.resolve(profile);
    mkdirSync(directory, { recursive: true });
    for (const service of serviceNames) {
      const flags = `--cpu-prof --cpu-prof-dir=${directory} --cpu-prof-name=${service}.cpuprofile`;
      settings[service] = { NODE_OPTIONS: flags };
    }
  }
  for (const text of given) {
    const [, name = '', variable = '', value = ''] = /^([a-z-]+)\.(\w+)=(.*)$/.exec(text) ?? [];
    const service = serviceNames.find((candidate) => candidate === name);
    if (service === undefined) {
      throw new Error(
        `--set is SERVICE.NAME=VALUE, the service one of ${serviceNames.join(', ')}: not ${text}`,
      );
    }
    settings[service] = { ...settings[service], [variable]: value };
  }
  return settings;
}
