import { ServiceError } from './errors.ts';
import type { EventLoopWatch } from './event-loop-watch.ts';
import { exitCodes } from './exit-codes.ts';
import type { ExitCode } from './exit-codes.ts';
import type { Log } from './log.ts';
import { messageOf } from './printable.ts';

/** What a probe is told. `details` must come from memory, never from the network. */
export interface Health {
  readonly ok: boolean;
  readonly details: Readonly<Record<string, unknown>>;
}

/** What a service's `start` gives back once it does its work. */
export interface RunningService {
  /** Whether it does its work now; in `details`, why not. */
  ready(): Health;
  /** Whether it could still recover without a restart. Without it: as long as the process is. */
  live?(): Health;
  /**
   * Ends the work in flight, or drops it when `deadlineMilliseconds` have passed, and closes
   * everything. A service that needs longer is ended by force.
   */
  stop(deadlineMilliseconds: number): Promise<void>;
}

export interface LifecycleOptions {
  readonly log: Log;
  readonly watch: EventLoopWatch;
  readonly shutdownSeconds: number;
  /** The exit code of an error that isn't a ServiceError; undefined: internal. */
  readonly exitCodeOf?: ((error: unknown) => ExitCode | undefined) | undefined;
  /** Runs after the service has stopped, within the same deadline. */
  readonly close: () => Promise<void>;
}

export type Phase = 'starting' | 'running' | 'stopping';

/** Longer than any pause that garbage collection makes, shorter than Kafka's session timeout. */
const longestStallMilliseconds = 15_000;

/** From start to exit, whatever happens in between: of one service, without Nest or the process. */
export class Lifecycle {
  /** Comes once, when the process should exit; never rejects. */
  readonly exit: Promise<ExitCode>;
  /** What the service waits for, and the last reason why it has to. */
  readonly waits = new Map<string, string>();
  readonly #options: LifecycleOptions;
  readonly #resolveExit: (code: ExitCode) => void;
  readonly #abort = new AbortController();
  #phase: Phase = 'starting';
  #starting: Promise<void> = Promise.resolve();
  #service: RunningService | undefined;
  #failure: { readonly code: ExitCode; readonly message: string } | undefined;

  constructor(options: LifecycleOptions) {
    this.#options = options;
    const { promise, resolve } = Promise.withResolvers<ExitCode>();
    this.exit = promise;
    this.#resolveExit = resolve;
  }

  /** Aborted as soon as the service should stop. */
  get signal(): AbortSignal {
    return this.#abort.signal;
  }

  get phase(): Phase {
    return this.#phase;
  }

  begin(start: () => Promise<RunningService>): void {
    this.#starting = this.#start(start);
  }

  /** Asks the service to stop; a second time does nothing. */
  stop(reason: string): void {
    if (this.#phase === 'stopping') {
      return;
    }
    this.#phase = 'stopping';
    const { log, shutdownSeconds } = this.#options;
    log.info('stopping', { reason });
    const deadline = shutdownSeconds * 1000;
    const timer = setTimeout(() => {
      log.error('the work in flight did not end in time: exiting without it', { shutdownSeconds });
      log.flush();
      this.#resolveExit(this.#failure?.code ?? exitCodes.stuck);
    }, deadline);
    this.#abort.abort(new DOMException('The service is stopping.', 'AbortError'));
    void this.#finish(deadline).finally(() => {
      clearTimeout(timer);
    });
  }

  /** For an error that the service can't go on with: logs it, fails liveness, stops, exits. */
  fail(error: unknown, exitCode: ExitCode = this.#exitCodeOf(error)): void {
    this.#options.log.fatal(messageOf(error), { error, exitCode });
    this.#failure ??= { code: exitCode, message: messageOf(error) };
    this.stop('failure');
  }

  live(): Health {
    const stall = this.#options.watch.stalledMilliseconds();
    if (this.#failure !== undefined) {
      return { ok: false, details: { failure: this.#failure.message } };
    }
    if (stall > longestStallMilliseconds) {
      return { ok: false, details: { eventLoopBlockedSeconds: stall / 1000 } };
    }
    return ask(() => this.#service?.live?.());
  }

  ready(): Health {
    const waiting = this.waits.size > 0 ? { waitingFor: Object.fromEntries(this.waits) } : {};
    if (this.#phase === 'running' && this.#service !== undefined) {
      const { ok, details } = ask(() => this.#service?.ready());
      return { ok, details: { ...waiting, ...details } };
    }
    const failure = this.#failure && { failure: this.#failure.message };
    return { ok: false, details: { ...waiting, ...failure } };
  }

  async #start(start: () => Promise<RunningService>): Promise<void> {
    try {
      this.#service = await start();
    } catch (error) {
      if (this.signal.aborted) {
        this.#options.log.debug('start given up', { error });
      } else {
        this.fail(error);
      }
      return;
    }
    if (this.#phase === 'starting') {
      this.#phase = 'running';
      this.#options.log.info('started');
    }
  }

  async #finish(deadline: number): Promise<void> {
    const { log, close } = this.#options;
    const begun = performance.now();
    let code: ExitCode = exitCodes.ok;
    try {
      await this.#starting;
      // The rest is for closing what the service leaves open.
      const left = deadline * 0.9 - (performance.now() - begun);
      await this.#service?.stop(Math.max(0, Math.round(left)));
      await close();
    } catch (error) {
      log.error('stopping failed', { error });
      code = exitCodes.internal;
    }
    log.info('stopped', { seconds: Math.round(performance.now() - begun) / 1000 });
    this.#resolveExit(this.#failure?.code ?? code);
  }

  #exitCodeOf(error: unknown): ExitCode {
    if (error instanceof ServiceError) {
      return error.exitCode;
    }
    return this.#options.exitCodeOf?.(error) ?? exitCodes.internal;
  }
}

function ask(question: () => Health | undefined): Health {
  try {
    return question() ?? { ok: true, details: {} };
  } catch (error) {
    return { ok: false, details: { error: messageOf(error) } };
  }
}
