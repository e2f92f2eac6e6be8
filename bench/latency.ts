import { type ChildProcess, spawn } from 'node:child_process';
import { setTimeout as pause } from 'node:timers/promises';
import { fileURLToPath } from 'node:url';
import { decodeBlock, isTelemetry, PartialAssembler } from '@anabranch/contract';
import type { Kafka } from '@anabranch/kafka';
import type { ServiceName } from '@anabranch/servers';
import type { Chain, StageCost } from './chain.ts';
import type { FilledTopic } from './filled-topic.ts';
import { blockOf, type HopTimes, hopsOf, type WrittenRange } from './hops.ts';
import { firstProbe } from './orders.ts';
import { monotonic, type PacedEnd, type PacedOptions, type ProbeSent } from './paced-producer.ts';
import type { BenchServers } from './servers.ts';
import { quantile } from './statistics.ts';
import { type Costs, differences, settle } from './throughput.ts';
import { table } from './workloads.ts';

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
  readonly hops: readonly Hop[];
  /** What a step took on average, in milliseconds of the clock. */
  readonly steps: readonly StageCost[];
  readonly cost: Costs;
}

export interface Hop {
  readonly name: keyof HopTimes;
  readonly p50: number;
  readonly p99: number;
}

export interface LatencyOptions {
  /** Records a second. */
  readonly rate: number;
  readonly seconds: number;
  readonly onProgress: (message: string) => void;
}

/** A probe that Postgres has shown. */
interface SeenProbe extends ProbeSent {
  readonly latency: number;
  /** Milliseconds since 1970. */
  readonly seenAt: number;
}

const lookMilliseconds = 5;
/** Until the rate is steady; what is probed then doesn't count. */
const settleMilliseconds = 2_000;
const program = fileURLToPath(new URL('paced-producer.ts', import.meta.url));
const steppers = ['ingest', 'stream-processor', 'batch-processor', 'fusion'] as const;

/**
 * While a process of its own produces at a rate, on top of what is there, asks Postgres for probe
 * records, each with a key of its own, until it shows them.
 */
export async function measureLatency(
  servers: BenchServers,
  chain: Chain,
  filled: FilledTopic,
  options: LatencyOptions,
): Promise<Latency> {
  const { topic, partitions, orders } = filled;
  const { pool } = chain.database;
  // Probes are found by an index in which no other record is.
  await pool.query(
    `CREATE INDEX IF NOT EXISTS bench_probes ON anabranch.state_${table} (customer_id) WHERE customer_id >= ${firstProbe}`,
  );
  const from = {
    source: await endsOf(servers.kafka, topic),
    blocks: await endsOf(servers.kafka, chain.topics.stream),
    partials: await endsOf(servers.kafka, chain.topics.results),
  };
  const costs = (): Costs => ({ ...chain.costs(), ...servers.costs() });
  const before = costs();
  const stepsBefore = await stepsOf(chain);
  const totalBefore = orders.total;

  const paced: PacedOptions = {
    brokers: servers.brokers,
    topic,
    partitions,
    orders: { ...orders.options, resume: orders.position },
    rate: options.rate,
    seconds: options.seconds + settleMilliseconds / 1000,
    firstNumber: totalBefore - orders.made,
  };
  const child = spawn(process.execPath, [program, JSON.stringify(paced)], {
    stdio: ['ignore', 'inherit', 'inherit', 'ipc'],
  });
  const run = new ProbeWatch(servers, chain, child, options);
  let end: PacedEnd;
  try {
    end = await run.untilAllSeen();
  } finally {
    child.kill();
  }
  while (orders.made < end.made) {
    orders.next();
  }
  for (const { customer, made } of run.sent) {
    orders.addProbe(customer, made);
  }
  await settle(servers, chain, { records: orders.total, counting: orders.rows.rows });
  const cost = differences(costs(), before);
  const steps = differencesOfSteps(await stepsOf(chain), stepsBefore);
  await chain.verify(orders);

  const latencies = run.seen.map(({ latency }) => latency);
  const hops = await readHops(servers, chain, topic, from, run.seen);
  return {
    rate: options.rate,
    producedPerSecond: end.recordsPerSecond,
    records: orders.total - totalBefore,
    probes: latencies.length,
    p50: quantile(latencies, 0.5),
    p99: quantile(latencies, 0.99),
    max: quantile(latencies, 1),
    hops: (['ingest', 'processor', 'fusion'] as const).map((name) => {
      const times = hops.map((hop) => hop[name]);
      return { name, p50: quantile(times, 0.5), p99: quantile(times, 0.99) };
    }),
    steps,
    cost,
  };
}

/** Asks Postgres for the probes that a producing process tells of. */
class ProbeWatch {
  readonly sent: ProbeSent[] = [];
  readonly seen: SeenProbe[] = [];
  readonly #servers: BenchServers;
  readonly #chain: Chain;
  readonly #options: LatencyOptions;
  readonly #countsFrom: number;
  /** Those that Postgres hasn't shown yet. */
  readonly #waiting = new Map<number, ProbeSent>();
  #end: PacedEnd | undefined;
  #failed: string | undefined;

  constructor(servers: BenchServers, chain: Chain, child: ChildProcess, options: LatencyOptions) {
    this.#servers = servers;
    this.#chain = chain;
    this.#options = options;
    this.#countsFrom = monotonic() + settleMilliseconds;
    child.on('message', (message: ProbeSent | PacedEnd) => {
      if ('recordsPerSecond' in message) {
        this.#end = message;
        return;
      }
      this.sent.push(message);
      this.#waiting.set(message.customer, message);
    });
    child.on('exit', (code) => {
      if (this.#end === undefined) {
        this.#failed = `The process that produces has ended with exit code ${String(code)}`;
      }
    });
  }

  async untilAllSeen(): Promise<PacedEnd> {
    for (;;) {
      if (this.#failed !== undefined) {
        throw new Error(this.#failed);
      }
      if (this.#end !== undefined && this.#waiting.size === 0) {
        return this.#end;
      }
      await this.#look();
      await this.#chain.checkRunning();
      await pause(lookMilliseconds, undefined, { signal: this.#servers.signal });
    }
  }

  async #look(): Promise<void> {
    if (this.#waiting.size === 0) {
      return;
    }
    const { rows } = await this.#chain.database.pool.query<{ customer_id: number }>({
      name: 'probes',
      text: `SELECT customer_id FROM ${table} WHERE customer_id >= ${firstProbe} AND customer_id = ANY($1::int[])`,
      values: [[...this.#waiting.keys()]],
    });
    const at = monotonic();
    const seenAt = Date.now();
    for (const { customer_id: customer } of rows) {
      const probe = this.#waiting.get(customer);
      this.#waiting.delete(customer);
      if (probe !== undefined && probe.at >= this.#countsFrom) {
        this.seen.push({ ...probe, latency: at - probe.at, seenAt });
      }
    }
    this.#options.onProgress(
      `${this.seen.length} probes seen, ${this.#waiting.size} on their way at ${Math.round(this.#options.rate)} records/s`,
    );
  }
}

/** Where the probes' time went, from what stands in the topics: the bench reads them afterwards. */
async function readHops(
  servers: BenchServers,
  chain: Chain,
  topic: string,
  from: Readonly<Record<'source' | 'blocks' | 'partials', ReadonlyMap<number, bigint>>>,
  seen: readonly SeenProbe[],
): Promise<HopTimes[]> {
  const { kafka } = servers;
  const coordinates = new Map<number, { partition: number; offset: bigint }>();
  await kafka.readTail(
    topic,
    from.source,
    (partition, bytes, offset, _at, _value, _end, keyStart, keyEnd) => {
      if (keyStart >= 0) {
        const customer = Number(bytes.toString('latin1', keyStart, keyEnd));
        coordinates.set(customer, { partition, offset: BigInt(offset) });
      }
    },
  );
  const blocks: WrittenRange[] = [];
  await kafka.readTail(
    chain.topics.stream,
    from.blocks,
    (_partition, bytes, _offset, writtenAt, start, end) => {
      const block = decodeBlock(Buffer.from(bytes.subarray(start, end)));
      blocks.push({ partition: block.partition, from: block.from, to: block.to, writtenAt });
    },
  );
  const partials: WrittenRange[] = [];
  const assemblers = new Map<number, PartialAssembler>();
  await kafka.readTail(
    chain.topics.results,
    from.partials,
    (partition, bytes, offset, writtenAt, start, end) => {
      const message = Buffer.from(bytes.subarray(start, end));
      if (isTelemetry(message)) {
        return;
      }
      const assembler = assemblers.get(partition) ?? new PartialAssembler();
      assemblers.set(partition, assembler);
      const partial = assembler.add(message, BigInt(offset));
      if (partial?.branch === 'stream') {
        partials.push({ partition, from: partial.from, to: partial.to, writtenAt });
      }
    },
  );
  return seen.flatMap((probe) => {
    const at = coordinates.get(probe.customer);
    const block = at && blockOf(blocks, at.partition, at.offset);
    const partial = at && blockOf(partials, at.partition, at.offset);
    return block && partial ? [hopsOf(probe.wall, block, partial, probe.seenAt)] : [];
  });
}

async function stepsOf(chain: Chain): Promise<StageCost[]> {
  return Promise.all(steppers.map((name: ServiceName) => chain.stagesOf(name)));
}

function differencesOfSteps(
  after: readonly StageCost[],
  before: readonly StageCost[],
): StageCost[] {
  return after.map((stage, i) => {
    const former = before[i];
    const since = (
      name: 'steps' | 'records' | 'rows' | 'load' | 'preprocess' | 'process' | 'store',
    ) => stage[name] - (former?.[name] ?? 0);
    return {
      service: stage.service,
      branch: stage.branch,
      steps: since('steps'),
      records: since('records'),
      rows: since('rows'),
      load: since('load'),
      preprocess: since('preprocess'),
      process: since('process'),
      store: since('store'),
    };
  });
}

/** Where each partition ends for readers now. */
async function endsOf(kafka: Kafka, topic: string): Promise<Map<number, bigint>> {
  const offsets = await kafka.admin.offsets(topic);
  return new Map(offsets.map(({ partition, latest }) => [partition, latest]));
}
