import type { Chain } from '../chain.ts';
import { RecordGenerator } from '../records.ts';
import type { SourceTopic } from '../source-topic.ts';

const recordsAtOnce = 300;
/** Of each source: twice of what the services take on two cores that they share with the test. */
const floodPerSecond = 2500;
/** Every so many sends there are two transactions that nobody may ever see, and one that all see. */
const transactionsEvery = 12;

export interface LoadOptions {
  readonly chain: Chain;
  readonly seed: number;
  /** Of each source. */
  readonly recordsPerSecond: number;
  /** Beyond this many records that aren't applied yet the load waits. */
  readonly backlog: number;
  /** Whether something is wrong already: then nobody waits for progress any more. */
  readonly isHopeless: () => boolean;
}

/** Generated records for all sources of a chain, for as long as a round wants it busy. */
export class FireLoad {
  readonly #options: LoadOptions;
  readonly #streams: readonly Stream[];
  /** Produces more than the chain takes, whatever waits already. */
  isFlooding = false;

  constructor(options: LoadOptions) {
    this.#options = options;
    this.#streams = options.chain.sources.map(
      (source, index) => new Stream(this, options, source, options.seed * 31 + index),
    );
  }

  get records(): number {
    return this.#options.chain.sources.reduce((sum, { produced }) => sum + produced.length, 0);
  }

  /** Waits until each source has something applied on both branches that hadn't been when this was called. */
  async progress(offsets = 1000n): Promise<void> {
    const { chain } = this.#options;
    await Promise.all(
      this.#streams.flatMap((stream) =>
        (['stream', 'batch'] as const).map(async (branch) => {
          const begun = await this.#applied(stream, branch);
          let now: bigint | null = null;
          await chain.eventually(
            `progress of the ${branch} branch of ${stream.source.source} from ${begun}`,
            async () => {
              stream.check();
              now = await this.#applied(stream, branch);
              return now !== null && now >= (begun ?? 0n) + offsets ? true : undefined;
            },
            () => `It is at ${now}.`,
          );
        }),
      ),
    );
  }

  /** Waits until all is applied that has been produced by now. */
  async caughtUp(): Promise<void> {
    const { chain } = this.#options;
    await Promise.all(
      this.#streams.map(async (stream) => {
        const ends = stream.source.lastOffsets();
        let now: unknown;
        await chain.eventually(
          `what was produced to ${stream.source.source} to be applied`,
          async () => {
            stream.check();
            const frontiers = await chain.frontiers(stream.source).catch(() => []);
            now = frontiers.map(({ partition, branch, next }) => `${partition}/${branch}: ${next}`);
            const isThrough = [...ends].every(
              ([partition, end]) =>
                frontiers.filter((f) => f.partition === partition && f.next >= end).length === 2,
            );
            return isThrough ? true : undefined;
          },
          () =>
            `Ends: ${[...ends].map(([p, end]) => `${p}: ${end}`).join(', ')}; frontiers: ${String(now)}`,
        );
      }),
    );
  }

  /** Adds a partition to each source, between two sends. */
  async addPartitions(): Promise<void> {
    await Promise.all(this.#streams.map((stream) => stream.addPartition()));
  }

  /** Does something while nothing is produced and all that was is applied. */
  async whileQuiet(work: () => Promise<void>): Promise<void> {
    const { promise: over, resolve } = Promise.withResolvers<void>();
    try {
      await Promise.all(this.#streams.map((stream) => stream.quiet(over)));
      await this.caughtUp();
      await work();
    } finally {
      resolve();
    }
  }

  /** Ends the load where it is, after a failure. */
  async abandon(): Promise<void> {
    await Promise.all(this.#streams.map((stream) => stream.abandon()));
  }

  /** Ends the load, with records that make all windows final. */
  async end(): Promise<void> {
    await Promise.all(this.#streams.map((stream) => stream.end()));
  }

  /** null: Postgres doesn't answer. */
  async #applied({ source }: Stream, branch: 'stream' | 'batch'): Promise<bigint | null> {
    return this.#options.chain.progress(branch, source).catch(() => null);
  }
}

/** The load of one source. */
class Stream {
  readonly source: SourceTopic;
  readonly #load: FireLoad;
  readonly #options: LoadOptions;
  readonly #generator: RecordGenerator;
  readonly #producing: Promise<void>;
  #failure: unknown;
  #ending = false;
  /** What is to be done between two sends. */
  readonly #between: (() => Promise<void>)[] = [];

  constructor(load: FireLoad, options: LoadOptions, source: SourceTopic, seed: number) {
    this.#load = load;
    this.#options = options;
    this.source = source;
    this.#generator = new RecordGenerator(seed, source.partitions);
    this.#producing = this.#produce();
    this.#producing.catch((error: unknown) => (this.#failure = error));
  }

  /** @throws what made the load end before its time, or makes waiting for it vain */
  check(): void {
    if (this.#failure !== undefined) {
      throw this.#failure;
    }
    if (this.#options.isHopeless()) {
      throw new Error('a check has failed meanwhile');
    }
  }

  async addPartition(): Promise<void> {
    const { promise, resolve } = Promise.withResolvers<void>();
    this.#between.push(async () => {
      const partitions = this.source.partitions + 1;
      await this.source.addPartitions(partitions);
      this.#generator.grow(partitions);
      resolve();
    });
    await Promise.race([promise, this.#producing]);
  }

  /** Waits for the send that is under way; the next one waits until `over`. */
  async quiet(over: Promise<void>): Promise<void> {
    const { promise, resolve } = Promise.withResolvers<void>();
    this.#between.push(async () => {
      resolve();
      await over;
    });
    await Promise.race([promise, this.#producing]);
  }

  async end(): Promise<void> {
    this.#ending = true;
    await this.#producing;
    await this.source.produceThroughFaults(this.#generator.closing());
  }

  async abandon(): Promise<void> {
    this.#ending = true;
    await this.#producing.catch(() => undefined);
  }

  async #produce(): Promise<void> {
    for (let sends = 1; !this.#ending; sends++) {
      const begun = performance.now();
      await this.source.produceThroughFaults(this.#generator.take(recordsAtOnce));
      if (sends % transactionsEvery === 0) {
        await this.source.abortThroughFaults(this.#generator.take(30), this.#generator.take(30));
        await this.source.commitThroughFaults(this.#generator.take(50));
      }
      for (const between of this.#between.splice(0)) {
        // Where brokers are away, it is tried again after the next send.
        await between().catch(() => this.#between.push(between));
      }
      const rate = this.#load.isFlooding ? floodPerSecond : this.#options.recordsPerSecond;
      await this.#wait(begun + (1000 * recordsAtOnce) / rate);
    }
  }

  async #wait(until: number): Promise<void> {
    const { chain, backlog } = this.#options;
    await chain.eventually('the load to be taken', async () => {
      if (this.#ending) {
        return true;
      }
      if (performance.now() < until) {
        return undefined;
      }
      if (this.#load.isFlooding) {
        return true;
      }
      const applied = await chain.progress('stream', this.source).catch(() => 0n);
      return BigInt(this.source.produced.length) - applied < BigInt(backlog) ? true : undefined;
    });
  }
}
