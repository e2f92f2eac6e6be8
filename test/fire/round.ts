import path from 'node:path';
import { Chain } from '../chain.ts';
import { Dice } from '../random.ts';
import type { SourceTopic } from '../source-topic.ts';
import { leftovers } from './checks/leftovers.ts';
import { topicFaults } from './checks/topics.ts';
import { Watcher } from './checks/watcher.ts';
import { type FaultName, faults } from './faults/all.ts';
import type { Field } from './field.ts';
import type { FireServers } from './fire-servers.ts';
import { Fleet } from './fleet.ts';
import { FireLoad } from './load.ts';
import { MemoryWatch } from './memory.ts';
import type { Plan } from './plan.ts';
import { expectBothSources, twoSources } from './sources.ts';

/** What a round has found. */
export interface Outcome {
  readonly seed: number;
  /** Empty: all is well. */
  readonly violations: readonly string[];
  /** What happened when, in milliseconds since the round began. */
  readonly log: readonly { readonly at: number; readonly what: string }[];
  readonly injected: readonly FaultName[];
  readonly records: number;
  /** Looks of the reader. */
  readonly looks: number;
  readonly finals: number;
  readonly corrections: number;
  /** From a fault's end until all is applied that had been produced by then. */
  readonly recoveries: readonly { readonly fault: string; readonly milliseconds: number }[];
  /** Bytes resident, at most, per service. */
  readonly memory: ReadonlyMap<string, number>;
}

/** Milliseconds. The slowest is `every-statement`, some 100 s on a busy machine. */
const longestFault = 400_000;

/** No service may take more. */
const mostMemory = 512 * 1024 * 1024;

/** How often each service is a little longer away than a broker allows, at least. */
const env = { SESSION_SECONDS: '6', SLICE_BYTES: '1048576', LOG_LEVEL: 'info' };

/** One round: a chain of its own on servers that are kept, load, the plan's faults, and all checks. */
export async function runRound(
  servers: FireServers,
  plan: Plan,
  tell: (line: string) => void = () => undefined,
): Promise<Outcome> {
  const round = await Round.begin(servers, plan, tell);
  return round.run();
}

class Round {
  readonly #servers: FireServers;
  readonly #plan: Plan;
  readonly #field: Field;
  readonly #watcher: Watcher;
  readonly #memory: MemoryWatch;
  readonly #begun = performance.now();
  readonly #log: { at: number; what: string }[] = [];
  readonly #violations: string[] = [];
  readonly #injected: FaultName[] = [];
  readonly #recoveries: { fault: string; milliseconds: number }[] = [];
  readonly #tell: (line: string) => void;

  static async begin(
    servers: FireServers,
    plan: Plan,
    tell: (line: string) => void,
  ): Promise<Round> {
    const { kafka, postgres, kafkaProxy, postgresProxy, spoolDisk } = servers;
    const chain = await Chain.open({
      servers: { brokers: kafka.brokers, databaseUrl: postgres.url },
      seenByServices: (databaseUrl) => {
        const url = new URL(databaseUrl);
        url.port = String(postgresProxy.proxy.port);
        return { brokers: `127.0.0.1:${kafkaProxy.port}`, databaseUrl: url.href };
      },
      sources: plan.partitions.map((partitions, index) => ({
        name: index === 0 ? 'orders' : 'payments',
        partitions,
      })),
      define: twoSources,
      env: {
        ...env,
        ...(spoolDisk && { SPOOL_DIRECTORY: path.join(spoolDisk.path, String(plan.seed)) }),
      },
    });
    for (const source of chain.sources) {
      await source.create();
    }
    return new Round(servers, plan, chain, tell);
  }

  private constructor(
    servers: FireServers,
    plan: Plan,
    chain: Chain,
    tell: (line: string) => void,
  ) {
    this.#servers = servers;
    this.#plan = plan;
    this.#tell = tell;
    const note = (what: string): void => this.#note(what);
    const fleet = new Fleet({ chain, note });
    fleet.startAll();
    const { seed, recordsPerSecond } = plan;
    const load = new FireLoad({
      chain,
      seed,
      recordsPerSecond,
      backlog: 12_000,
      isHopeless: () => this.#isHopeless(),
    });
    this.#field = { ...servers, chain, fleet, load, note };
    this.#memory = new MemoryWatch(fleet);
    this.#watcher = new Watcher({
      databaseUrl: chain.databaseUrl,
      windows: [
        { table: 'per_minute', key: ['window_start', 'region', 'kind'] },
        { table: 'per_hour', key: ['window_start'] },
        { table: 'payments_per_quarter', key: ['window_start', 'kind'] },
      ],
      keyed: [
        { table: 'latest_by_customer', key: ['customer', 'kind'] },
        { table: 'latest_payment', key: ['region'] },
      ],
      appended: ['events', 'numbered', 'payments'],
    });
  }

  async run(): Promise<Outcome> {
    const { chain, fleet, load } = this.#field;
    try {
      // A round without faults is there to see the load.
      await load.progress(this.#plan.steps.length === 0 ? 6000n : 1000n);
      this.#note('the load is under way');
      for (const step of this.#plan.steps) {
        await this.#step(step);
      }
      await load.end();
      await chain.settled();
      this.#note('all is applied');
      await this.#check('the tables', () => expectBothSources(chain.sources.map(this.#subject)));
      await this.#check('the internal topics', () => this.#topics());
      await this.#watcher.end();
      await this.#atRest();
    } catch (error) {
      this.#violation(`the round could not go on: ${messageOf(error)}`);
    }
    await this.#watcher.end();
    this.#memory.end();
    for (const { service, instance, what } of fleet.unasked) {
      this.#violation(`${service} ${instance} ${what}, and nobody had asked for it`);
    }
    for (const [service, bytes] of this.#memory.most) {
      if (bytes > mostMemory) {
        this.#violation(`${service} had ${Math.round(bytes / 1_048_576)} MiB resident`);
      }
    }
    if (this.#violations.length + this.#watcher.violations.length > 0) {
      this.#tell(chain.logTails());
    }
    const { records } = load;
    const close = async (): Promise<void> => {
      await load.abandon();
      await fleet.close();
      await chain.close();
    };
    await close().catch((error: unknown) => {
      // A server that a fault has left broken; the round says so already, or says so now.
      this.#violation(`the round could not be cleared away: ${messageOf(error)}`);
    });
    return {
      seed: this.#plan.seed,
      violations: [...this.#watcher.violations, ...this.#violations],
      log: this.#log,
      injected: this.#injected,
      records,
      looks: this.#watcher.looks,
      finals: this.#watcher.finalsSeen,
      corrections: this.#watcher.correctionsSeen,
      recoveries: this.#recoveries,
      memory: this.#memory.most,
    };
  }

  async #step(step: Plan['steps'][number]): Promise<void> {
    const injected = Promise.all(
      step.map(async ({ name, seed }) => {
        this.#injected.push(name);
        await faults[name].inject(this.#field, new Dice(seed));
      }),
    );
    // Nobody may wait for it any more.
    injected.catch(() => undefined);
    await this.#within(injected);
    const over = performance.now();
    await this.#field.load.caughtUp();
    const milliseconds = Math.round(performance.now() - over);
    const names = step.map(({ name }) => name).join(' + ');
    this.#recoveries.push({ fault: names, milliseconds });
    this.#note(`caught up after ${names}, ${milliseconds} ms`);
  }

  /** A fault may wait for something that a chain which stands still never does. */
  async #within(work: Promise<unknown>): Promise<void> {
    const { promise: vain, reject } = Promise.withResolvers<never>();
    const begun = performance.now();
    const timer = setInterval(() => {
      if (this.#isHopeless()) {
        reject(new Error('a check has failed meanwhile'));
      } else if (performance.now() - begun > longestFault) {
        reject(new Error(`a fault is not over after ${longestFault / 1000} s`));
      }
    }, 250);
    try {
      await Promise.race([work, vain]);
    } finally {
      clearInterval(timer);
    }
  }

  #isHopeless(): boolean {
    return this.#field.fleet.unasked.length + this.#watcher.violations.length > 0;
  }

  readonly #subject = (source: SourceTopic) => ({
    source: source.source,
    produced: source.produced,
    query: this.#field.chain.query.bind(this.#field.chain),
  });

  async #topics(): Promise<void> {
    const repeated = this.#injected.includes('messages-repeated');
    for (const source of this.#field.chain.sources) {
      for (const fault of await topicFaults(this.#field.chain, source, repeated)) {
        this.#violation(fault);
      }
    }
  }

  /** Asked to stop with nothing to do, the services end at once and leave nothing behind. */
  async #atRest(): Promise<void> {
    const { chain, fleet } = this.#field;
    const { kafka, spoolDisk } = this.#servers;
    for (const [name, code] of await fleet.close()) {
      if (code !== 0) {
        this.#violation(`${name} was at rest, was asked to stop and ended with exit code ${code}`);
      }
    }
    const spools = spoolDisk === null ? [chain.directory] : [spoolDisk.path];
    let left: string[] = [];
    await chain
      .eventually('nothing to be left behind', async () => {
        left = (await leftovers(chain, kafka.brokers, spools)).filter(
          (what) => !what.endsWith('.log'),
        );
        return left.length === 0 ? true : undefined;
      })
      .catch(() => {
        for (const what of left) {
          this.#violation(`left behind: ${what}`);
        }
      });
  }

  async #check(what: string, check: () => Promise<void>): Promise<void> {
    try {
      await check();
      this.#note(`checked ${what}`);
    } catch (error) {
      this.#violation(`${what}: ${messageOf(error)}`);
    }
  }

  #violation(what: string): void {
    this.#violations.push(what);
    this.#note(`VIOLATION: ${what}`);
  }

  #note(what: string): void {
    const at = Math.round(performance.now() - this.#begun);
    this.#log.push({ at, what });
    this.#tell(`${(at / 1000).toFixed(1).padStart(7)}  ${what}`);
  }
}

/** Of an assertion, also what differs. */
function messageOf(error: unknown): string {
  if (!(error instanceof Error)) {
    return String(error);
  }
  const { actual, expected } = error as { actual?: unknown; expected?: unknown };
  const difference =
    actual === undefined ? '' : `\n  expected ${show(expected)}\n  found    ${show(actual)}`;
  return `${error.message}${difference}`;
}

const show = (value: unknown): string =>
  (
    JSON.stringify(value, (_, item: unknown) => (typeof item === 'bigint' ? String(item) : item)) ??
    'undefined'
  ).slice(0, 2000);
