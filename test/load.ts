import type { Chain } from './chain.ts';
import { RecordGenerator } from './records.ts';

const recordsAtOnce = 500;
/** Beyond this many records that aren't applied yet, the load waits. */
const backlog = 15_000n;
/** Every so many sends, there are two transactions that nobody may ever see. */
const abortEvery = 16;

/** Generated records, produced for as long as a test wants the chain to be busy. */
export class Load {
  readonly #chain: Chain;
  readonly #generator: RecordGenerator;
  readonly #producing: Promise<void>;
  #ending = false;
  #failure: unknown;

  constructor(chain: Chain, seed: number) {
    this.#chain = chain;
    this.#generator = new RecordGenerator(seed, chain.partitions);
    this.#producing = this.#produce();
    this.#producing.catch((error: unknown) => (this.#failure = error));
  }

  /** Waits until the chain has applied something on that branch that it hadn't when this was called. */
  async progress(branch: 'stream' | 'batch', offsets = 2000n): Promise<void> {
    const begun = await this.#chain.progress(branch);
    await this.#chain.eventually(
      `progress of the ${branch} branch from ${begun}`,
      async () => {
        if (this.#failure !== undefined) {
          throw this.#failure;
        }
        return (await this.#chain.progress(branch)) >= begun + offsets ? true : undefined;
      },
      async () => `It is at ${await this.#chain.progress(branch)}.`,
    );
  }

  /** Ends the load, with records that make all windows final. */
  async end(): Promise<void> {
    this.#ending = true;
    await this.#producing;
    await this.#chain.produce(this.#generator.closing());
  }

  async #produce(): Promise<void> {
    for (let sends = 1; !this.#ending; sends++) {
      await this.#chain.produce(this.#generator.take(recordsAtOnce));
      if (sends % abortEvery === 0) {
        await this.#chain.produceAborted(this.#generator.take(40), this.#generator.take(40));
      }
      await this.#chain.eventually('the load to be taken', async () => {
        const applied = await this.#chain.progress('stream');
        const waiting = BigInt(this.#chain.produced.length) - applied;
        return this.#ending || waiting < backlog ? true : undefined;
      });
    }
  }
}
