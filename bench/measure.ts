import { setTimeout as pause } from 'node:timers/promises';
import type { PlainMessage, Producer } from '@anabranch/kafka';
import { type Chain, components, type PerComponent, type StageCost } from './chain.ts';
import { firstProbe, Orders } from './orders.ts';
import { costOfMachine, difference, type ProcessCost } from './process-cost.ts';
import { checkLedger, table, type Workload } from './workloads.ts';

export interface Throughput {
  readonly records: number;
  /** From the services' start to the last committed row. */
  readonly seconds: number;
  /** From the services' start to the first committed row. */
  readonly startSeconds: number;
  readonly recordsPerSecond: number;
  /** From the first look that saw half of the records committed. */
  readonly warmRecords: number;
  readonly warmRecordsPerSecond: number;
  readonly cost: PerComponent<ProcessCost | null>;
  readonly warmCost: PerComponent<ProcessCost | null>;
  /** Share of the machine's used CPU that neither the chain nor the bench used; null: not known. */
  readonly othersShare: number | null;
  readonly walBytes: number;
  readonly stages: readonly StageCost[];
}

export interface Latency {
  /** Wanted, and reached. */
  readonly rate: number;
  readonly producedPerSecond: number;
  readonly records: number;
  readonly probes: number;
  /** Milliseconds from produce to queryable. */
  readonly p50: number;
  readonly p99: number;
  readonly max: number;
  readonly cost: PerComponent<ProcessCost | null>;
}

/** Messages per partition in a send: what libs/kafka sends at once. */
const batch = 2_000;

/** Fills the topic; no part of what is measured. */
export async function fill(
  chain: Chain,
  orders: Orders,
  records: number,
  partitions: number,
  onProgress: (made: number) => void,
): Promise<void> {
  const producer = chain.kafka.producer();
  try {
    while (orders.made < records) {
      const count = Math.min(batch * partitions, records - orders.made);
      await producer.send(chain.topic, makeMessages(orders, count, partitions));
      onProgress(orders.made);
    }
  } finally {
    await producer.close();
  }
}

/** Starts the services on the filled topic and waits for the last row. */
export async function measureThroughput(
  chain: Chain,
  workload: Workload,
  orders: Orders,
  onProgress: (message: string) => void,
): Promise<Throughput> {
  const records = orders.made;
  const machineBefore = costOfMachine();
  const ownBefore = process.cpuUsage();
  const before = chain.costs();
  const walBefore = await chain.walBytes();
  const begun = performance.now();
  chain.startServices();

  let firstAt: number | undefined;
  let half: { at: number; applied: number; costs: PerComponent<ProcessCost | null> } | undefined;
  await chain.settled(records, (applied) => {
    const at = performance.now();
    const counted = applied[workload.branch];
    if (counted > 0) {
      firstAt ??= at;
    }
    if (half === undefined && counted >= records / 2) {
      half = { at, applied: counted, costs: chain.costs() };
    }
    onProgress(
      `${formatCount(counted)} of ${formatCount(records)} records are committed, ${formatCount((counted / (at - begun)) * 1000)}/s so far`,
    );
  });
  const ended = performance.now();
  const after = chain.costs();
  const machineAfter = costOfMachine();
  const own = process.cpuUsage(ownBefore);
  const cost = differences(after, before);
  const machine =
    machineAfter === null || machineBefore === null ? null : machineAfter - machineBefore;
  const used = sumOf(cost);
  const warm = half ?? { at: begun, applied: 0, costs: before };
  const walBytes = (await chain.walBytes()) - walBefore;
  await workload.check(chain.pool, orders);
  await checkLedger(chain.pool, orders);
  // What the last steps cost is written within a second.
  await pause(1500);
  return {
    records,
    seconds: (ended - begun) / 1000,
    startSeconds: ((firstAt ?? ended) - begun) / 1000,
    recordsPerSecond: (records / (ended - begun)) * 1000,
    warmRecords: records - warm.applied,
    warmRecordsPerSecond: ((records - warm.applied) / (ended - warm.at)) * 1000,
    cost,
    warmCost: differences(after, warm.costs),
    othersShare:
      machine === null || used === null
        ? null
        : Math.max(0, 1 - (used + (own.user + own.system) / 1e6) / machine),
    walBytes,
    stages: await chain.stageCosts(),
  };
}

const tickMilliseconds = 10;
const probeMilliseconds = 50;
const lookMilliseconds = 5;
/** Until the rate is steady; what is probed then doesn't count. */
const settleMilliseconds = 2_000;

export interface LatencyOptions {
  /** Records a second. */
  readonly rate: number;
  readonly seconds: number;
  readonly partitions: number;
  readonly signal: AbortSignal;
  readonly onProgress: (message: string) => void;
}

/**
 * Produces at a rate, on top of what is there, and asks Postgres for probe records, each with a key
 * of its own, until it shows them.
 */
export async function measureLatency(
  chain: Chain,
  workload: Workload,
  orders: Orders,
  options: LatencyOptions,
): Promise<Latency> {
  // Probes are found by an index in which no other record is.
  await chain.pool.query(
    `CREATE INDEX ON anabranch.state_${table} (customer_id) WHERE customer_id >= ${firstProbe}`,
  );
  const before = chain.costs();
  const madeBefore = orders.made;
  const load = chain.kafka.producer();
  const own = chain.kafka.producer();
  const begun = performance.now();
  const run: LatencyRun = {
    ...options,
    chain,
    orders,
    begun,
    until: begun + settleMilliseconds + options.seconds * 1000,
    waiting: new Map(),
    latencies: [],
  };
  try {
    const [produced, probes] = await Promise.all([
      produceLoad(run, load),
      produceProbes(run, own),
      watchProbes(run),
    ]);
    await chain.settled(orders.made);
    const cost = differences(chain.costs(), before);
    await workload.check(chain.pool, orders);
    await checkLedger(chain.pool, orders);
    const sorted = run.latencies.toSorted((a, b) => a - b);
    const quantile = (share: number): number =>
      sorted[Math.min(sorted.length - 1, Math.floor(sorted.length * share))] ?? Number.NaN;
    return {
      rate: options.rate,
      producedPerSecond: produced,
      records: orders.made - madeBefore,
      probes,
      p50: quantile(0.5),
      p99: quantile(0.99),
      max: quantile(1),
      cost,
    };
  } finally {
    await Promise.all([load.close(), own.close()]);
  }
}

interface LatencyRun extends LatencyOptions {
  readonly chain: Chain;
  readonly orders: Orders;
  /** Of `performance.now()`, as all times here. */
  readonly begun: number;
  readonly until: number;
  /** When the probes that Postgres hasn't shown yet were sent. */
  readonly waiting: Map<number, number>;
  readonly latencies: number[];
}

/** @returns the rate that was reached */
async function produceLoad(run: LatencyRun, producer: Producer): Promise<number> {
  const { chain, orders, begun, until, rate, partitions, signal } = run;
  let sent = 0;
  for (let now = begun; now < until; now = performance.now()) {
    const due = Math.floor(((now - begun) / 1000) * rate) - sent;
    // After a stall, no flood that the rate never had.
    const count = Math.min(due, batch * partitions);
    if (count > 0) {
      await producer.send(chain.topic, makeMessages(orders, count, partitions));
      sent += count;
    }
    await pause(Math.max(0, tickMilliseconds - (performance.now() - now)), undefined, { signal });
  }
  return (sent / (performance.now() - begun)) * 1000;
}

/** @returns how many count */
async function produceProbes(run: LatencyRun, producer: Producer): Promise<number> {
  const { chain, orders, begun, until, partitions, waiting, signal } = run;
  let probes = 0;
  for (let i = 0; performance.now() < until; i++) {
    const customer = firstProbe + i;
    const value = orders.probe(customer);
    const at = performance.now();
    if (at >= begun + settleMilliseconds) {
      probes++;
      waiting.set(customer, at);
    }
    await producer.send(chain.topic, [{ partition: i % partitions, value }]);
    // Not in step with anything that ticks in the services.
    await pause(probeMilliseconds + (i % 7) * 3, undefined, { signal });
  }
  return probes;
}

async function watchProbes(run: LatencyRun): Promise<void> {
  const { chain, until, waiting, latencies, signal, onProgress } = run;
  while (waiting.size > 0 || performance.now() < until) {
    const { rows } = await chain.pool.query<{ customer_id: number }>({
      name: 'probes',
      text: `SELECT customer_id FROM ${table} WHERE customer_id >= ${firstProbe} AND customer_id = ANY($1::int[])`,
      values: [[...waiting.keys()]],
    });
    const seenAt = performance.now();
    for (const { customer_id: customer } of rows) {
      const at = waiting.get(customer);
      if (at !== undefined) {
        latencies.push(seenAt - at);
        waiting.delete(customer);
      }
    }
    const left = Math.max(0, Math.ceil((until - seenAt) / 1000));
    onProgress(`${latencies.length} probes seen, ${waiting.size} on their way, ${left} s left`);
    await chain.checkServices();
    await pause(lookMilliseconds, undefined, { signal });
  }
}

/** Records go to the partitions in turn, whoever their customer is: the harder case. */
function makeMessages(orders: Orders, count: number, partitions: number): PlainMessage[] {
  return Array.from({ length: count }, () => ({
    partition: orders.made % partitions,
    value: orders.next(),
  }));
}

function differences(
  after: PerComponent<ProcessCost | null>,
  before: PerComponent<ProcessCost | null>,
): PerComponent<ProcessCost | null> {
  return Object.fromEntries(
    components.map((name) => [name, difference(after[name], before[name])]),
  ) as unknown as PerComponent<ProcessCost | null>;
}

/** CPU seconds of all; null when one isn't known. */
export function sumOf(cost: PerComponent<ProcessCost | null>): number | null {
  return components.reduce<number | null>((sum, name) => {
    const seconds = cost[name]?.seconds;
    return sum === null || seconds === undefined ? null : sum + seconds;
  }, 0);
}

export function formatCount(count: number): string {
  return Math.round(count).toLocaleString('en-US');
}
