import { setTimeout as pause } from 'node:timers/promises';
import type { Contender } from './contender.ts';
import type { Extent, FilledTopic } from './filled-topic.ts';
import { costOfMachine, difference, type ProcessCost } from './process-cost.ts';
import { formatCount } from './markdown.ts';
import type { BenchServers } from './servers.ts';

/** By process: the contender's, the broker and Postgres. */
export type Costs = Readonly<Record<string, ProcessCost | null>>;

export interface Throughput {
  readonly records: number;
  /** From the processes' start to the last committed row. */
  readonly seconds: number;
  /** From the processes' start to the first committed row. */
  readonly startSeconds: number;
  readonly recordsPerSecond: number;
  /** Of the second half, which could be read once the first one was committed. */
  readonly warmRecords: number;
  readonly warmRecordsPerSecond: number;
  readonly cost: Costs;
  readonly warmCost: Costs;
  /** Bytes, of the contender's processes. */
  readonly peakMemory: Readonly<Record<string, number | null>>;
  /** Share of the machine's used CPU that neither contender, servers nor bench used; null: not known. */
  readonly othersShare: number | null;
}

const patienceMilliseconds = 120_000;

/**
 * Starts a contender on a filled topic, lets it do the first half and then the second one, and checks
 * every row.
 */
export async function measureThroughput(
  servers: BenchServers,
  contender: Contender,
  filled: FilledTopic,
  onProgress: (message: string) => void,
): Promise<Throughput> {
  const { orders, firstHalf, all } = filled;
  const costs = (): Costs => ({ ...contender.costs(), ...servers.costs() });
  const machineBefore = costOfMachine();
  const ownBefore = process.cpuUsage();
  const before = costs();
  const begun = performance.now();
  await contender.start();

  let firstAt: number | undefined;
  const onLook = (committed: number, at: number): void => {
    if (committed > 0) {
      firstAt ??= at;
    }
    const rate = (committed / (at - begun)) * 1000;
    onProgress(
      `${formatCount(committed)} of ${formatCount(all.records)} records are committed, ${formatCount(rate)}/s so far`,
    );
  };
  const half = await settle(servers, contender, firstHalf, onLook);
  const atHalf = costs();
  const released = performance.now();
  await filled.release();
  const ended = await settle(servers, contender, all, onLook);
  const after = costs();
  const machineAfter = costOfMachine();
  const own = process.cpuUsage(ownBefore);
  const peakMemory = contender.peakMemory();
  await contender.verify(orders);

  const cost = differences(after, before);
  const used = sumOf(cost);
  const machine =
    machineAfter === null || machineBefore === null ? null : machineAfter - machineBefore;
  const warmRecords = all.records - firstHalf.records;
  // What lies between the halves is the bench's doing.
  const milliseconds = half - begun + (ended - released);
  return {
    records: all.records,
    seconds: milliseconds / 1000,
    startSeconds: ((firstAt ?? half) - begun) / 1000,
    recordsPerSecond: (all.records / milliseconds) * 1000,
    warmRecords,
    warmRecordsPerSecond: (warmRecords / (ended - released)) * 1000,
    cost,
    warmCost: differences(after, atHalf),
    peakMemory,
    othersShare:
      machine === null || used === null
        ? null
        : Math.max(0, 1 - (used + (own.user + own.system) / 1e6) / machine),
  };
}

/**
 * Waits until a contender has committed so much, and has nothing left to do.
 * @param onLook is told each time how far it is, and when it was asked (`performance.now()`)
 * @returns when it was asked and had committed all
 * @throws when a process has ended, or nothing has moved for two minutes
 */
export async function settle(
  servers: BenchServers,
  contender: Contender,
  extent: Extent,
  onLook: (committed: number, at: number) => void = () => {},
): Promise<number> {
  let last = -1;
  let movedAt = performance.now();
  let doneAt: number | undefined;
  for (;;) {
    const at = performance.now();
    const { committed, done, settled } = await contender.progress(extent);
    onLook(committed, at);
    if (done) {
      doneAt ??= at;
      if (settled) {
        return doneAt;
      }
    }
    if (committed !== last) {
      last = committed;
      movedAt = at;
    } else if (at - movedAt > patienceMilliseconds) {
      throw new Error(
        `Nothing has moved for two minutes: ${committed} records are committed. The logs are in ${servers.options.directory}`,
      );
    }
    await contender.checkRunning();
    await pause(contender.pollMilliseconds, undefined, { signal: servers.signal });
  }
}

export function differences(after: Costs, before: Costs): Costs {
  return Object.fromEntries(
    Object.entries(after).map(([name, cost]) => [name, difference(cost, before[name] ?? null)]),
  );
}

/** CPU seconds of all; null when one isn't known. */
export function sumOf(costs: Costs): number | null {
  return Object.values(costs).reduce<number | null>(
    (sum, cost) => (sum === null || cost === null ? null : sum + cost.seconds),
    0,
  );
}

/** CPU seconds per million records; null when not known. */
export function perMillion(costs: Costs, records: number): number | null {
  const seconds = sumOf(costs);
  return seconds === null || records === 0 ? null : (seconds / records) * 1e6;
}
