import { type ChildProcess, spawn } from 'node:child_process';
import { once } from 'node:events';
import {
  closeSync,
  fstatSync,
  openSync,
  readFileSync,
  readSync,
  renameSync,
  rmSync,
  statSync,
  writeFileSync,
} from 'node:fs';
import path from 'node:path';
import type { Writable } from 'node:stream';
import { setTimeout as delay } from 'node:timers/promises';
import { ServersError } from './errors.ts';
import { childrenOf, identify, isRunning, type ProcessIdentity } from './process-identity.ts';

/** How to run one server. */
export interface ServerCommand {
  /** As users call it: `Kafka`. */
  name: string;
  /** Holds the log and the note of the running process. */
  directory: string;
  program: string;
  arguments: string[];
  cwd?: string;
  env?: NodeJS.ProcessEnv;
  /** Whom to run it as, when not as ourselves. */
  user?: { uid: number; gid: number } | undefined;
  /** What makes it stop cleanly. */
  stopSignal: 'SIGTERM' | 'SIGINT';
  /** Whether it answers. Asked every few milliseconds until it does. */
  isReady: () => Promise<boolean>;
}

const startSeconds = 60;
const stopSeconds = 15;
const largestLog = 5_000_000;

/**
 * Becomes the server (exec: so its pid, its exit and its signals are the child's), after leaving
 * behind a process that waits on the pipe at descriptor 3. The pipe ends without a line when we
 * are gone, whichever way we went; then that process stops the server, cleanly if it can.
 * It is forked twice, so that it isn't the server's child: Postgres takes the end of a child that
 * it doesn't know for a crash. SIGCONT because a stopped process doesn't see other signals.
 */
const watchdog = `
signal=$1; seconds=$2; shift 2
( {
  read -r line <&3 && exit
  kill -$signal $$; kill -CONT $$
  while [ $seconds -gt 0 ] && kill -0 $$; do command -p sleep 1; seconds=$((seconds - 1)); done
  kill -KILL $$
} >/dev/null 2>&1 & )
exec "$@" 3<&-
`;

/**
 * A server that runs as a child of this process and never outlives it. It doesn't keep this
 * process alive either: a program that ends without stop() takes the server with it.
 */
export class SupervisedServer {
  /** What the server writes. */
  readonly logFile: string;

  readonly #command: ServerCommand;
  readonly #note: string;
  readonly #onEnd: (error: ServersError) => void;
  readonly #onStopped: () => void;
  #child: ChildProcess | undefined;
  #ending = false;
  #logStart = 0;

  /**
   * @param onEnd called when the server ends without having been told to
   * @param onStopped called when stop() is done
   */
  constructor(
    command: ServerCommand,
    onEnd: (error: ServersError) => void,
    onStopped: () => void = () => {},
  ) {
    this.#command = command;
    this.#onEnd = onEnd;
    this.#onStopped = onStopped;
    this.logFile = path.join(command.directory, 'server.log');
    this.#note = noteIn(command.directory);
  }

  /** Undefined while the server isn't running. */
  get pid(): number | undefined {
    return this.#child?.pid;
  }

  /**
   * Starts the server and waits until it answers.
   *
   * @throws ServersError START_FAILED
   */
  async start(): Promise<void> {
    const { name, program, directory, stopSignal } = this.#command;
    const log = this.#openLog();
    let child: ChildProcess;
    try {
      child = spawn(
        '/bin/sh',
        [
          '-c',
          watchdog,
          'anabranch',
          stopSignal.slice(3),
          String(stopSeconds),
          program,
          ...this.#command.arguments,
        ],
        {
          cwd: this.#command.cwd ?? directory,
          env: this.#command.env ?? process.env,
          ...this.#command.user,
          // Its own session: Ctrl-C in the terminal is for us, and we then stop the server.
          detached: true,
          stdio: ['ignore', log, log, 'pipe'],
        },
      );
    } finally {
      closeSync(log);
    }
    this.#child = child;
    this.#ending = false;
    let failure: unknown;
    child.on('error', (error) => {
      failure = error;
      if (child.pid === undefined) {
        this.#child = undefined;
      }
    });
    let ready = false;
    const lifeline = child.stdio[3] as Writable & { unref(): void };
    // The watchdog may be gone already.
    lifeline.on('error', () => {});
    child.on('exit', (code, signal) => {
      // Tells the watchdog to go, too.
      lifeline.end('ended\n');
      rmSync(this.#note, { force: true });
      this.#child = undefined;
      if (ready && !this.#ending) {
        this.#onEnd(this.#error('SERVER_ENDED', `${name} ended with ${signal ?? `exit ${code}`}`));
      }
    });
    if (child.pid !== undefined) {
      writeFileSync(this.#note, JSON.stringify(identify(child.pid)));
    }
    child.unref();
    lifeline.unref();

    const deadline = Date.now() + startSeconds * 1000;
    while (!(await this.#command.isReady())) {
      if (this.#child === undefined) {
        throw this.#error('START_FAILED', `${name} could not be started`, failure);
      }
      if (Date.now() > deadline) {
        await this.kill();
        throw this.#error('START_FAILED', `${name} did not answer within ${startSeconds} s`);
      }
      await delay(20);
    }
    // What answered may be another server that took the port just before ours could.
    if (this.#child === undefined) {
      throw this.#error('START_FAILED', `${name} could not be started`);
    }
    ready = true;
  }

  /** Stops the server cleanly, by force after 15 s, and gives its directory back. */
  async stop(): Promise<void> {
    await this.#end(this.#command.stopSignal);
    this.#onStopped();
  }

  /** SIGKILL, to its child processes as well: as when the power fails. restart() brings it back. */
  async kill(): Promise<void> {
    await this.#end('SIGKILL');
  }

  /** Freezes the server, with its child processes, until resume(). Clients just wait. */
  pause(): void {
    this.#signal('SIGSTOP');
  }

  resume(): void {
    this.#signal('SIGCONT');
  }

  /** Stops the server if it runs, and starts it again on the same port with the same data. */
  async restart(): Promise<void> {
    await this.#end(this.#command.stopSignal);
    await this.start();
  }

  /** The last lines that the server wrote since its latest start, without Java's stack frames. */
  logTail(lines = 12): string {
    const log = openSync(this.logFile, 'r');
    try {
      const { size } = fstatSync(log);
      const from = Math.max(this.#logStart, size - 65_536);
      const bytes = Buffer.alloc(Math.max(size - from, 0));
      readSync(log, bytes, 0, bytes.length, from);
      return bytes
        .toString('utf8')
        .trimEnd()
        .split('\n')
        .filter((line) => !/^\t(at |\.\.\. )/.test(line))
        .slice(-lines)
        .join('\n');
    } finally {
      closeSync(log);
    }
  }

  async #end(signal: 'SIGTERM' | 'SIGINT' | 'SIGKILL'): Promise<void> {
    const child = this.#child;
    if (child === undefined) {
      return;
    }
    this.#ending = true;
    child.ref();
    const exited = once(child, 'exit');
    if (signal === 'SIGKILL') {
      this.#signal('SIGSTOP');
      this.#signal('SIGKILL');
    } else {
      child.kill(signal);
      this.#signal('SIGCONT');
    }
    const force = setTimeout(() => this.#signal('SIGKILL'), stopSeconds * 1000);
    await exited;
    clearTimeout(force);
  }

  /** Server first: stopped, it makes no new child that we would miss. */
  #signal(signal: NodeJS.Signals): void {
    const { pid } = this;
    if (pid === undefined) {
      return;
    }
    const children = childrenOf(pid);
    trySignal(pid, signal);
    for (const child of new Set([...children, ...childrenOf(pid)])) {
      trySignal(child, signal);
    }
  }

  #openLog(): number {
    if ((statSync(this.logFile, { throwIfNoEntry: false })?.size ?? 0) > largestLog) {
      renameSync(this.logFile, `${this.logFile}.1`);
    }
    const log = openSync(this.logFile, 'a');
    this.#logStart = fstatSync(log).size;
    return log;
  }

  #error(code: 'START_FAILED' | 'SERVER_ENDED', what: string, cause?: unknown): ServersError {
    return new ServersError(
      code,
      `${what}. The last lines of ${this.logFile}:\n${this.logTail()}`,
      cause === undefined ? {} : { cause },
    );
  }
}

/** The file that tells which process the server is. */
function noteIn(directory: string): string {
  return path.join(directory, 'server.pid');
}

/**
 * Waits for the end of the server that another process left in this directory when it ended
 * without stopping it: the watchdog is at it, but two servers must not meet on the same data.
 * Call it with the directory locked.
 */
export async function endLeftover(directory: string, stopSignal: NodeJS.Signals): Promise<void> {
  const note = noteIn(directory);
  let leftover: ProcessIdentity;
  try {
    leftover = JSON.parse(readFileSync(note, 'utf8')) as ProcessIdentity;
  } catch {
    return;
  }
  const deadline = Date.now() + stopSeconds * 1000;
  for (let asked = false; isRunning(leftover); asked = true) {
    if (!asked) {
      trySignal(leftover.pid, stopSignal);
      trySignal(leftover.pid, 'SIGCONT');
    } else if (Date.now() > deadline) {
      trySignal(leftover.pid, 'SIGKILL');
    }
    await delay(20);
  }
  rmSync(note, { force: true });
}

function trySignal(pid: number, signal: NodeJS.Signals): void {
  try {
    process.kill(pid, signal);
  } catch {
    // It has ended meanwhile.
  }
}
