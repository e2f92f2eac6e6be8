import { writeFileSync } from 'node:fs';
import path from 'node:path';
import { fileURLToPath } from 'node:url';
import {
  type LogLine,
  type ServiceName,
  serviceNames,
  type ServiceProcess,
} from '@anabranch/servers';
import { type Chain, partitionsIn } from '../chain.ts';

const clock = fileURLToPath(new URL('clock.ts', import.meta.url));

export interface FleetOptions {
  readonly chain: Chain;
  /** Of all instances of a service. */
  readonly env?: (service: ServiceName) => Readonly<Record<string, string>>;
  readonly note: (what: string) => void;
}

/** A service that has ended, or given up a source or a partition, and nobody had asked for it. */
export interface Unasked {
  readonly service: ServiceName;
  readonly instance: string;
  readonly what: string;
}

/** The services' processes, under an orchestrator that starts those anew that end by themselves. */
export class Fleet {
  /** What no fault explains. */
  readonly unasked: Unasked[] = [];
  readonly #options: FleetOptions;
  readonly #running = new Map<string, ServiceProcess>();
  readonly #tolerated = new Map<ServiceName, number>();
  readonly #listeners = new Set<(service: ServiceName, line: LogLine) => void>();
  readonly #restarting = new Set<ServiceProcess>();
  #closing = false;

  constructor(options: FleetOptions) {
    this.#options = options;
  }

  startAll(): void {
    for (const service of serviceNames) {
      this.start(service);
    }
  }

  start(
    service: ServiceName,
    instance = 'a',
    env: Readonly<Record<string, string>> = {},
  ): ServiceProcess {
    const { chain, env: common = () => ({}) } = this.#options;
    const started = chain.start(service, instance, {
      env: {
        NODE_OPTIONS: `--import=${clock}`,
        FIRE_CLOCK: this.#clockOf(service),
        ...common(service),
        ...env,
      },
      onLog: (line) => {
        for (const listener of this.#listeners) {
          listener(service, line);
        }
        if (line.message === 'halted a partition') {
          this.#judge(started, `halted a partition: ${JSON.stringify(line['reason'])}`);
        }
        if (line.message.startsWith('a source has stopped')) {
          this.#givenUp(started, JSON.stringify(line['error']));
        }
      },
    });
    this.#running.set(`${service}.${instance}`, started);
    void this.#watch(started, env);
    return started;
  }

  get(service: ServiceName, instance = 'a'): ServiceProcess {
    const found = this.#running.get(`${service}.${instance}`);
    if (found === undefined) {
      throw new Error(`${service} ${instance} isn't running.`);
    }
    return found;
  }

  all(): ServiceProcess[] {
    return [...this.#running.values()];
  }

  async kill(service: ServiceName, instance = 'a'): Promise<void> {
    const process = this.get(service, instance);
    this.#running.delete(`${service}.${instance}`);
    await this.#options.chain.kill(process);
  }

  /** SIGTERM. @returns the exit code */
  async stop(service: ServiceName, instance = 'a'): Promise<number | null> {
    const process = this.get(service, instance);
    this.#running.delete(`${service}.${instance}`);
    return this.#options.chain.stop(process);
  }

  /** While `work` goes on, the service may end by itself: it is started anew, and nobody complains. */
  async tolerating<T>(service: ServiceName, work: () => Promise<T>): Promise<T> {
    const add = (by: number): void => {
      this.#tolerated.set(service, (this.#tolerated.get(service) ?? 0) + by);
    };
    add(1);
    try {
      return await work();
    } finally {
      add(-1);
    }
  }

  /** Sets the service's clock off by as many milliseconds. */
  setClock(service: ServiceName, offset: number): void {
    writeFileSync(this.#clockOf(service), String(offset));
  }

  /** Waits for a line of a service's log. */
  async logged(service: ServiceName, isIt: (line: LogLine) => boolean): Promise<void> {
    const { promise, resolve } = Promise.withResolvers<void>();
    const listener = (by: ServiceName, line: LogLine): void => {
      if (by === service && isIt(line)) {
        resolve();
      }
    };
    this.#listeners.add(listener);
    try {
      await promise;
    } finally {
      this.#listeners.delete(listener);
    }
  }

  /** Waits until an instance is in all groups, and has a partition of some source, or all of all. */
  async has(service: ServiceName, instance: string, atLeast: 'one' | 'all'): Promise<void> {
    const { chain } = this.#options;
    const topics = service === 'fusion' ? 2 : 1;
    let last: unknown;
    await chain.eventually(
      `${service} ${instance} to have ${atLeast} of the partitions`,
      async () => {
        // Asked for anew: it may have been restarted.
        const { details } = await this.get(service, instance)
          .readiness()
          .catch((error: unknown) => ({ details: String(error) }));
        last = details;
        const isThere = chain.sources[atLeast === 'all' ? 'every' : 'some'](
          ({ source, partitions }) =>
            partitionsIn(details, source) >= (atLeast === 'all' ? topics * partitions : 1),
        );
        return isThere && isJoined(details, chain) ? true : undefined;
      },
      () => JSON.stringify(last),
    );
  }

  /** SIGTERM to all. @returns the exit codes */
  async close(): Promise<Map<string, number | null>> {
    this.#closing = true;
    const codes = new Map<string, number | null>();
    await Promise.all(
      [...this.#running].map(async ([name, process]) => {
        codes.set(name, await this.#options.chain.stop(process));
      }),
    );
    this.#running.clear();
    return codes;
  }

  async #watch(process: ServiceProcess, env: Readonly<Record<string, string>>): Promise<void> {
    const code = await process.exited;
    const { service, instance } = process;
    const isAsked = (): boolean =>
      this.#closing || this.#running.get(`${service}.${instance}`) !== process;
    if (isAsked()) {
      return;
    }
    // For the chain it has ended, too: it no longer waits in vain for something that isn't there.
    await this.#options.chain.stop(process);
    if (!this.#restarting.delete(process)) {
      this.#judge(process, `ended with exit code ${code}`);
    }
    if (!isAsked()) {
      this.start(service, instance, env);
    }
  }

  /** The service goes on with its other sources; an operator who is alarmed restarts it. */
  #givenUp(process: ServiceProcess, why: string): void {
    if (!this.#closing) {
      this.#restarting.add(process);
      this.#judge(process, `gave a source up: ${why}`);
      void process.kill();
    }
  }

  #judge({ service, instance }: ServiceProcess, what: string): void {
    const isTolerated = (this.#tolerated.get(service) ?? 0) > 0;
    this.#options.note(
      `${service} ${instance} ${what}${isTolerated ? ' (as the fault may make it)' : ''}`,
    );
    if (!isTolerated) {
      this.unasked.push({ service, instance, what });
    }
  }

  #clockOf(service: ServiceName): string {
    return path.join(path.dirname(this.#options.chain.definition), `clock.${service}`);
  }
}

/** Whether a service says that it has joined the group of each source. */
function isJoined(readiness: unknown, { sources }: Chain): boolean {
  const { details } = readiness as { details?: Record<string, { joined?: boolean }> };
  return sources.every(({ source }) => details?.[source]?.joined === true);
}
