import { type ChildProcess, spawn } from 'node:child_process';
import { once } from 'node:events';
import { createWriteStream, mkdirSync, type WriteStream } from 'node:fs';
import path from 'node:path';
import { createInterface } from 'node:readline';
import { fileURLToPath } from 'node:url';
import { ServersError } from './errors.ts';

export const serviceNames = ['ingest', 'stream-processor', 'batch-processor', 'fusion'] as const;
export type ServiceName = (typeof serviceNames)[number];

export interface ServiceProcessOptions {
  readonly service: ServiceName;
  readonly instance: string;
  /** Where its log goes, and its spool. */
  readonly directory: string;
  readonly brokers: string;
  readonly databaseUrl: string;
  /** Path of the definition. */
  readonly definition: string;
  /** Further settings of the service. */
  readonly env?: Readonly<Record<string, string>>;
  /** Gets each line of its log that is JSON. */
  readonly onLog?: (line: LogLine) => void;
}

export interface LogLine {
  readonly level: string;
  readonly message: string;
  readonly [field: string]: unknown;
}

export interface Readiness {
  readonly ok: boolean;
  readonly details: unknown;
}

const apps = fileURLToPath(new URL('../../../apps/', import.meta.url));
const endWithParent = new URL('end-with-parent.ts', import.meta.url).href;

/** A service as it is deployed: its bundle, in a process of its own, on a free port. */
export class ServiceProcess {
  readonly service: ServiceName;
  readonly instance: string;
  readonly logFile: string;
  readonly #child: ChildProcess;
  readonly #exited: Promise<number | null>;
  readonly #port: Promise<number>;
  /** The last lines of its log, for an error that tells why it ended. */
  readonly #last: string[] = [];
  #isRunning = true;

  constructor(options: ServiceProcessOptions) {
    const { service, instance, directory, onLog } = options;
    this.service = service;
    this.instance = instance;
    mkdirSync(directory, { recursive: true });
    this.logFile = path.join(directory, `${service}.${instance}.log`);
    const main = path.join(apps, service, 'dist/main.mjs');
    const child = spawn(
      process.execPath,
      ['--enable-source-maps', '--import', endWithParent, main],
      {
        // Of the parent's environment only what Node itself may need: settings come from the options.
        env: {
          PATH: process.env['PATH'],
          HOME: process.env['HOME'],
          TMPDIR: process.env['TMPDIR'],
          NODE_ENV: 'production',
          KAFKA_BROKERS: options.brokers,
          ...(service === 'fusion' && { DATABASE_URL: options.databaseUrl }),
          ANABRANCH_DEFINITION: options.definition,
          INSTANCE: instance,
          HOST: '127.0.0.1',
          PORT: '0',
          ...(service === 'batch-processor' && {
            SPOOL_DIRECTORY: path.join(directory, `spool.${instance}`),
          }),
          ...options.env,
        },
        stdio: ['ignore', 'pipe', 'pipe', 'ipc'],
      },
    );
    this.#child = child;
    this.#exited = once(child, 'exit').then(([code]) => {
      this.#isRunning = false;
      return code as number | null;
    });
    const log = createWriteStream(this.logFile, { flags: 'a' });
    const listening = Promise.withResolvers<number>();
    this.#port = listening.promise;
    // Nobody may be waiting for it.
    this.#port.catch(() => undefined);
    for (const stream of [child.stdout, child.stderr]) {
      if (stream === null) {
        throw new Error('The output of a service is piped.');
      }
      stream.pipe(log, { end: false });
      createInterface({ input: stream }).on('line', (text) => {
        this.#last.push(text);
        this.#last.splice(0, this.#last.length - 20);
        const line = parseLine(text);
        if (line?.message === 'listening') {
          listening.resolve(Number(line['port']));
        }
        if (line !== null) {
          onLog?.(line);
        }
      });
    }
    void this.#ended(log, listening.reject);
  }

  get pid(): number {
    return this.#child.pid ?? 0;
  }

  get isRunning(): boolean {
    return this.#isRunning;
  }

  /** Its exit code; null: ended by a signal. */
  get exited(): Promise<number | null> {
    return this.#exited;
  }

  async url(): Promise<string> {
    return `http://127.0.0.1:${await this.#port}`;
  }

  /** @throws ServersError when it has ended */
  async readiness(): Promise<Readiness> {
    const url = await this.url();
    if (!this.#isRunning) {
      throw await this.#endError();
    }
    try {
      const response = await fetch(`${url}/health/ready`, { signal: AbortSignal.timeout(5000) });
      return { ok: response.ok, details: await response.json() };
    } catch (error) {
      return { ok: false, details: String(error) };
    }
  }

  async metrics(): Promise<string> {
    const response = await fetch(`${await this.url()}/metrics`, {
      signal: AbortSignal.timeout(5000),
    });
    return response.text();
  }

  /** Once it has ended: nobody waits for its port any more. */
  async #ended(log: WriteStream, reject: (error: Error) => void): Promise<void> {
    await this.#exited;
    log.end();
    reject(await this.#endError());
  }

  async #endError(): Promise<ServersError> {
    return new ServersError(
      'SERVICE_ENDED',
      `${this.service} has ended with exit code ${(await this.#exited) ?? 'none'}; its log is ${this.logFile}:\n${this.#last.join('\n')}`,
    );
  }

  /** SIGTERM: it ends the work in flight. */
  stop(): Promise<number | null> {
    this.#child.kill('SIGTERM');
    return this.#exited;
  }

  /** SIGKILL: it gets to do nothing any more. */
  kill(): Promise<number | null> {
    this.#child.kill('SIGKILL');
    return this.#exited;
  }

  /** SIGSTOP: to the others it looks dead. */
  pause(): void {
    this.#child.kill('SIGSTOP');
  }

  resume(): void {
    this.#child.kill('SIGCONT');
  }
}

function parseLine(text: string): LogLine | null {
  try {
    return JSON.parse(text) as LogLine;
  } catch {
    return null;
  }
}
