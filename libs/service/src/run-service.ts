import { constants, hostname } from 'node:os';
import { setFlagsFromString } from 'node:v8';
import { ConfigError, ServiceError } from './errors.ts';
import { exitCodes } from './exit-codes.ts';
import type { ExitCode } from './exit-codes.ts';
import { launchService } from './launch-service.ts';
import type { LaunchedService, ServiceOptions } from './launch-service.ts';
import { Log } from './log.ts';
import { messageOf } from './printable.ts';
import type { CommonConfig } from './settings.ts';

/**
 * A signal this soon after the first is the same one: Ctrl-C reaches the whole group of processes,
 * and npm or a supervisor passes it on once more.
 */
const sameSignalMilliseconds = 300;

/**
 * The whole life of a service's process: `main.ts` calls nothing else. Exits with one of
 * `exitCodes`; SIGTERM or SIGINT stops it within SHUTDOWN_SECONDS, a second one at once (with 128
 * and the signal's number).
 */
export async function runService<C extends CommonConfig>(
  options: ServiceOptions<C>,
): Promise<void> {
  // Else V8 collects the whole heap for each 100 MB or so of Buffers, however little of it is garbage:
  // 0.73 times the CPU in all on w2 with it, ingest and stream-processor 0.5 times, 1.4 times the
  // records a second; the stream-processor's peak grows from 330 to 430 MB.
  setFlagsFromString('--external-memory-accounted-in-global-limit');
  // Until the config is read: its faults should come in the format that was asked for.
  let log = new Log({
    service: options.name,
    instance: options.env['INSTANCE'] || hostname(),
    format: options.env['LOG_FORMAT'] === 'pretty' ? 'pretty' : 'json',
  });
  let launched: LaunchedService | undefined;
  let first: { signal: NodeJS.Signals; at: number } | undefined;

  const onSignal = (signal: NodeJS.Signals): void => {
    if (first === undefined) {
      first = { signal, at: performance.now() };
      launched?.stop(signal);
    } else if (performance.now() - first.at > sameSignalMilliseconds) {
      log.warn('a second signal: exiting at once', { signal });
      process.exit(128 + constants.signals[signal]);
    }
  };
  process.on('SIGTERM', onSignal);
  process.on('SIGINT', onSignal);
  // Node raises rejections that nobody handles as exceptions, too.
  process.on('uncaughtException', (error: unknown, origin) => {
    // What is in memory can't be trusted any more; what is in Kafka and Postgres can.
    log.fatal(messageOf(error), { error, origin, exitCode: exitCodes.internal });
    log.flush();
    process.exit(exitCodes.internal);
  });
  // Whoever read the log is gone; that is no reason to lose a transaction.
  process.stdout.on('error', () => undefined);

  try {
    launched = await launchService(options);
  } catch (error) {
    process.exit(report(error, log));
  }
  log = launched.log;
  if (first !== undefined) {
    launched.stop(first.signal);
  }
  process.exit(await launched.exit);
}

function report(error: unknown, log: Log): ExitCode {
  const exitCode = error instanceof ServiceError ? error.exitCode : exitCodes.internal;
  if (error instanceof ConfigError) {
    for (const fault of error.faults) {
      log.fatal(fault, { exitCode });
    }
  } else {
    log.fatal(messageOf(error), { error, exitCode });
  }
  return exitCode;
}
