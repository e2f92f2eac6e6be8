import path from 'node:path';
import { rmSync } from 'node:fs';
import type { Settings } from './chain.ts';
import { type FilledTopic, type FillOptions, fillTopic } from './filled-topic.ts';
import { formatCount } from './markdown.ts';
import { BenchServers } from './servers.ts';

export interface BenchOptions {
  /** For all data and logs. */
  readonly directory: string;
  readonly brokers: string | undefined;
  readonly databaseUrl: string | undefined;
  /** Of our services, in every run. */
  readonly settings: Settings;
  readonly signal: AbortSignal;
}

/** What all series of one command share. */
export class Bench {
  readonly #options: BenchOptions;
  #shownAt = 0;
  #servers = 0;

  constructor(options: BenchOptions) {
    this.#options = options;
  }

  get directory(): string {
    return this.#options.directory;
  }

  get settings(): Settings {
    return this.#options.settings;
  }

  /** Starts servers of their own for a series, and removes their data unless it fails. */
  async withServers<T>(work: (servers: BenchServers) => Promise<T>): Promise<T> {
    const directory = path.join(this.directory, `servers-${++this.#servers}`);
    const { brokers, databaseUrl, signal } = this.#options;
    const servers = await BenchServers.open({
      directory,
      brokers,
      databaseUrl,
      signal,
      onProgress: this.show,
    });
    try {
      return await work(servers);
    } finally {
      await servers.close();
      rmSync(path.join(directory, 'kafka', 'data'), { recursive: true, force: true });
      rmSync(path.join(directory, 'postgres', 'data'), { recursive: true, force: true });
    }
  }

  fill(servers: BenchServers, options: FillOptions): Promise<FilledTopic> {
    const total = formatCount(options.total ?? options.records);
    return fillTopic(servers, options, (made) => {
      this.show(`the topic has ${formatCount(made)} of ${total} records`);
    });
  }

  /** A line that stays. */
  readonly say = (message: string): void => {
    this.#clear();
    console.log(`${new Date().toISOString().slice(11, 19)} ${message}`);
  };

  /** What is going on: a line that is overwritten, or one every five seconds where there is no terminal. */
  readonly show = (message: string): void => {
    const now = performance.now();
    if (process.stdout.isTTY) {
      this.#clear();
      process.stdout.write(message.slice(0, process.stdout.columns - 1));
    } else if (now - this.#shownAt > 5000) {
      this.#shownAt = now;
      console.log(`  ${message}`);
    }
  };

  #clear(): void {
    if (process.stdout.isTTY) {
      process.stdout.write('\r\u001B[K');
    }
  }
}
