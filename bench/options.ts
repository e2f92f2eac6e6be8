import path from 'node:path';
import { parseArgs } from 'node:util';
import { type ServiceName, serviceNames } from '@anabranch/servers';
import type { Settings } from './chain.ts';
import { type Dimension, dimensions } from './growth.ts';
import { type PeerName, peerNames, type PeerWorkload } from './peers/peer.ts';
import { type WorkloadName, workloads } from './workloads.ts';

export const usage = `npm run bench                         measures ${Object.keys(workloads).join(', ')}, one after another
npm run bench -- --peers node,flink   w2 and w1, in turn with what others would use
npm run bench -- --growth WHAT        ${Object.keys(dimensions).join(', ')}, or all: cost at each size
npm run bench -- --backfill           ten million records through the batch branch
npm run bench -- --latency            at 25, 50 and 80 % of the sustained rate, by hop
npm run bench -- --full               all of these but the first: some 20 minutes on two cores

--records N            in the filled topic; default 1,000,000; for growth 500,000, for backfill 10,000,000
--partitions N         of the source; default 4
--repeat N             the whole series this often, one after another in each round; default 1
--workload NAME        one of them, or all (default); may be given several times
${Object.entries(workloads)
  .map(([name, { title }]) => `                         ${name.padEnd(4)} ${title}`)
  .join('\n')}
                       with --peers: w1, w2 or all
--latency-seconds N    how long to probe the latency at a rate; default 20, 0 leaves it out
--rate N               records a second then; default half of the warm rate; with --latency besides
                       the shares of the sustained rate, default 20,000
--set SERVICE.NAME=VALUE   a setting of a service, such as stream-processor.STEP_BYTES=4194304
--profile DIRECTORY    CPU profiles of the services' JavaScript, for Chrome's developer tools
--built                takes the services' bundles as they are
--json FILE            all figures
--readme               puts the tables into bench/README.md
--help                 this text

KAFKA_BROKERS and DATABASE_URL name servers of yours to use instead of local ones; what CPU and
memory they take isn't measured then. The peer flink needs a JDK and, the first time, Maven.`;

export interface Options {
  /** Undefined: as much as is usual for the series. */
  readonly records: number | undefined;
  readonly partitions: number;
  readonly repeat: number;
  /** Of the plain series; null: another one was asked for. */
  readonly workloads: readonly WorkloadName[] | null;
  readonly peers: {
    readonly names: readonly PeerName[];
    readonly workloads: readonly PeerWorkload[];
  } | null;
  readonly growth: readonly Dimension[] | null;
  readonly backfill: boolean;
  readonly latency: boolean;
  readonly full: boolean;
  readonly latencySeconds: number;
  readonly rate: number | undefined;
  readonly settings: Settings;
  /** Absolute. */
  readonly profile: string | undefined;
  readonly built: boolean;
  readonly json: string | undefined;
  readonly readme: boolean;
}

/**
 * null: help was asked for.
 * @throws Error that says what is wrong
 */
export function readOptions(args: readonly string[]): Options | null {
  const { values } = parseArgs({
    args: [...args],
    options: {
      peers: { type: 'string' },
      growth: { type: 'string' },
      backfill: { type: 'boolean', default: false },
      latency: { type: 'boolean', default: false },
      full: { type: 'boolean', default: false },
      workload: { type: 'string', multiple: true, default: ['all'] },
      records: { type: 'string' },
      partitions: { type: 'string', default: '4' },
      repeat: { type: 'string', default: '1' },
      'latency-seconds': { type: 'string', default: '20' },
      rate: { type: 'string' },
      set: { type: 'string', multiple: true, default: [] },
      profile: { type: 'string' },
      built: { type: 'boolean', default: false },
      json: { type: 'string' },
      readme: { type: 'boolean', default: false },
      help: { type: 'boolean', default: false },
    },
  });
  if (values.help) {
    return null;
  }
  const { full, backfill, latency, built, json, readme } = values;
  const peers = values.peers ?? (full ? peerNames.join(',') : undefined);
  const growth = values.growth ?? (full ? 'all' : undefined);
  const isPlain = peers === undefined && growth === undefined && !backfill && !latency && !full;
  const profile = values.profile === undefined ? undefined : path.resolve(values.profile);
  return {
    records:
      values.records === undefined ? undefined : wholeNumber('records', values.records, 1000),
    partitions: wholeNumber('partitions', values.partitions, 1),
    repeat: wholeNumber('repeat', values.repeat, 1),
    workloads: isPlain
      ? values.workload.flatMap((name) =>
          named('workload', name, Object.keys(workloads) as WorkloadName[]),
        )
      : null,
    peers:
      peers === undefined
        ? null
        : {
            names: peers.split(',').flatMap((name) => named('peers', name, peerNames)),
            workloads: values.workload.flatMap((name) =>
              named('workload', name, ['w2', 'w1'] as const),
            ),
          },
    growth:
      growth === undefined
        ? null
        : growth
            .split(',')
            .flatMap((name) => named('growth', name, Object.keys(dimensions) as Dimension[])),
    backfill: backfill || full,
    latency: latency || full,
    full,
    latencySeconds: wholeNumber('latency-seconds', values['latency-seconds'], 0),
    rate: values.rate === undefined ? undefined : wholeNumber('rate', values.rate, 1),
    settings: settingsOf(values.set, profile),
    profile,
    built,
    json,
    readme,
  };
}

/** `all` means all. */
function named<T extends string>(option: string, name: string, names: readonly T[]): T[] {
  const found = name === 'all' ? [...names] : names.filter((candidate) => candidate === name);
  if (found.length === 0) {
    throw new Error(`--${option} is one of ${names.join(', ')}, all: not ${name}`);
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

function settingsOf(given: readonly string[], profile: string | undefined): Settings {
  const settings: Partial<Record<ServiceName, Record<string, string>>> = {};
  if (profile !== undefined) {
    for (const service of serviceNames) {
      // A file per process, named by Node: services run several times in a series.
      settings[service] = { NODE_OPTIONS: `--cpu-prof --cpu-prof-dir=${profile}/${service}` };
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
