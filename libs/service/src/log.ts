import { styleText } from 'node:util';
import { printable } from './printable.ts';

/** From the least to the most severe. */
export const logLevels = ['debug', 'info', 'warn', 'error', 'fatal'] as const;
export type LogLevel = (typeof logLevels)[number];

export const logFormats = ['json', 'pretty'] as const;
export type LogFormat = (typeof logFormats)[number];

/** Goes through `printable`, so errors, bigints and bytes are welcome. Never put records in here. */
export type LogFields = Readonly<Record<string, unknown>>;

export interface LogOptions {
  readonly service: string;
  readonly instance: string;
  /** Default `info`. */
  readonly level?: LogLevel;
  /** Default `json`. */
  readonly format?: LogFormat;
  /** How often `repeat` tells a count. Default 10 s. */
  readonly repeatSeconds?: number;
  /** Gets each line with its line break. Default: standard output. */
  readonly write?: (line: string) => void;
}

interface Repeated {
  /** Calls since the last line. */
  count: number;
  level: LogLevel;
  message: string;
  fields: LogFields | undefined;
  log: Log;
  timer: NodeJS.Timeout;
}

/** Keys come from code, so more than this many means that one was made of data. */
const maxKeys = 500;

const colours = {
  debug: 'gray',
  info: 'green',
  warn: 'yellow',
  error: 'red',
  fatal: 'red',
} as const;

/**
 * A line per message on standard output: `{"time","level","service","instance","message",…fields}`.
 * Messages are constant texts; what varies goes into fields.
 */
export class Log {
  readonly #options: LogOptions;
  readonly #threshold: number;
  readonly #write: (line: string) => void;
  readonly #bound: LogFields;
  readonly #repeated: Map<string, Repeated>;

  constructor(
    options: LogOptions,
    bound: LogFields = {},
    repeated: Map<string, Repeated> = new Map(),
  ) {
    this.#options = options;
    this.#threshold = logLevels.indexOf(options.level ?? 'info');
    this.#write = options.write ?? ((line) => process.stdout.write(line));
    this.#bound = bound;
    this.#repeated = repeated;
  }

  debug(message: string, fields?: LogFields): void {
    this.write('debug', message, fields);
  }

  info(message: string, fields?: LogFields): void {
    this.write('info', message, fields);
  }

  warn(message: string, fields?: LogFields): void {
    this.write('warn', message, fields);
  }

  error(message: string, fields?: LogFields): void {
    this.write('error', message, fields);
  }

  fatal(message: string, fields?: LogFields): void {
    this.write('fatal', message, fields);
  }

  /** A log whose lines also hold these fields. */
  child(fields: LogFields): Log {
    return new Log(this.#options, { ...this.#bound, ...fields }, this.#repeated);
  }

  /**
   * For what may happen many times a second. Writes the first one at once; while more of the same key
   * come, writes the latest with `repeated`, their number, every `repeatSeconds`.
   * @param key from code, not from data: there is room for 500
   */
  repeat(key: string, level: LogLevel, message: string, fields?: LogFields): void {
    const kept = this.#repeated.has(key) || this.#repeated.size < maxKeys ? key : '…';
    const repeated = this.#repeated.get(kept);
    if (repeated !== undefined) {
      repeated.count += 1;
      repeated.level = level;
      repeated.message = message;
      repeated.fields = fields;
      repeated.log = this;
      return;
    }
    this.write(level, message, fields);
    const timer = setInterval(
      () => {
        if (!this.#writeRepeated(kept)) {
          clearInterval(timer);
          this.#repeated.delete(kept);
        }
      },
      (this.#options.repeatSeconds ?? 10) * 1000,
    );
    timer.unref();
    this.#repeated.set(kept, { count: 0, level, message, fields, log: this, timer });
  }

  /**
   * Writes the counts that `repeat` still holds and forgets its keys, or this one: for when what was
   * repeated is over, and for the end of the process.
   */
  flush(key?: string): void {
    for (const kept of key === undefined ? [...this.#repeated.keys()] : [key]) {
      this.#writeRepeated(kept);
      clearInterval(this.#repeated.get(kept)?.timer);
      this.#repeated.delete(kept);
    }
  }

  write(level: LogLevel, message: string, fields: LogFields = {}): void {
    if (logLevels.indexOf(level) < this.#threshold) {
      return;
    }
    const { service, instance, format } = this.#options;
    const time = new Date().toISOString();
    const extra = printable({ ...this.#bound, ...fields }) as Record<string, unknown>;
    if (format === 'pretty') {
      this.#write(pretty(time, level, service, message, extra));
      return;
    }
    const head = { time, level, service, instance, message: printable(message) };
    // The head goes in twice: it comes first, and no field can replace it.
    this.#write(`${JSON.stringify({ ...head, ...extra, ...head })}\n`);
  }

  #writeRepeated(key: string): boolean {
    const repeated = this.#repeated.get(key);
    if (repeated === undefined || repeated.count === 0) {
      return false;
    }
    const { log, level, message, fields, count } = repeated;
    log.write(level, message, { ...fields, repeated: count });
    repeated.count = 0;
    return true;
  }
}

function pretty(
  time: string,
  level: LogLevel,
  service: string,
  message: string,
  fields: Record<string, unknown>,
): string {
  const stacks: string[] = [];
  const words = Object.entries(fields).map(([name, value]) => {
    if (typeof value === 'object' && value !== null && 'stack' in value && 'message' in value) {
      stacks.push(String(value.stack));
      return `${name}=${JSON.stringify(value.message)}`;
    }
    return `${name}=${typeof value === 'string' && /^[^\s"]+$/.test(value) ? value : JSON.stringify(value)}`;
  });
  const head = [
    styleText('gray', time.slice(11, 23)),
    styleText(colours[level], level.toUpperCase().padEnd(5)),
    styleText('cyan', service),
    message,
    styleText('gray', words.join(' ')),
  ];
  return [`${head.join(' ').trimEnd()}\n`, ...stacks.map((stack) => `${stack}\n`)].join('');
}
