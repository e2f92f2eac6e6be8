import type { LoggerService } from '@nestjs/common';
import { NestFactory } from '@nestjs/core';
import { FastifyAdapter } from '@nestjs/platform-fastify';
import type { NestFastifyApplication } from '@nestjs/platform-fastify';
import { readConfig, shownConfig } from './config.ts';
import type { Environment, SettingsOf } from './config.ts';
import { createMetrics } from './create-metrics.ts';
import type { Metrics, MetricsPage } from './create-metrics.ts';
import { ServiceError } from './errors.ts';
import { EventLoopWatch } from './event-loop-watch.ts';
import type { ExitCode } from './exit-codes.ts';
import { HealthModule } from './health.module.ts';
import { Lifecycle } from './lifecycle.ts';
import type { RunningService } from './lifecycle.ts';
import { Log } from './log.ts';
import { messageOf } from './printable.ts';
import type { CommonConfig } from './settings.ts';
import { openTracer, type Tracer } from './tracer.ts';
import { waitFor } from './wait-for.ts';
import type { WaitOptions } from './wait-for.ts';

export interface ServiceContext<C> {
  readonly config: C;
  readonly log: Log;
  readonly metrics: Metrics;
  readonly tracer: Tracer;
  /** Aborted as soon as the service should stop. */
  readonly signal: AbortSignal;
  /** For an error that the service can't go on with, outside of `start`. Returns at once. */
  readonly fatal: (error: unknown, exitCode?: ExitCode) => void;
  /** `waitFor` with this service's log and signal; what it waits for shows in `/health/ready`. */
  readonly waitFor: <T>(
    what: string,
    attempt: (signal: AbortSignal) => Promise<T>,
    options?: Pick<WaitOptions, 'isFinal'>,
  ) => Promise<T>;
}

export interface ServiceOptions<C extends CommonConfig> {
  readonly name: string;
  readonly version: string;
  /** The app's settings, made with `settings`. */
  readonly config: SettingsOf<C>;
  /** `process.env`, which only an app's main reads. */
  readonly env: Environment;
  /** Builds the service and starts its work. Health already answers; stop waiting on `signal`. */
  readonly start: (context: ServiceContext<C>) => Promise<RunningService>;
  /** The exit code of an error that isn't a ServiceError; undefined: internal. */
  readonly exitCodeOf?: (error: unknown) => ExitCode | undefined;
}

export interface LaunchedService {
  /** On which health and metrics listen. */
  readonly port: number;
  /** Comes when the process should exit; never rejects. */
  readonly exit: Promise<ExitCode>;
  readonly log: Log;
  stop(reason: string): void;
}

/** A stall shows in liveness for this long, so that a probe every 10 s meets it. */
const stallMemoryMilliseconds = 15_000;

/**
 * Reads the config, listens with health and metrics, and begins the service's start without waiting
 * for its end. Touches neither signals nor the process, so a test can have several.
 * @throws ConfigError; ServiceError CONFIG where the port can't be had
 */
export async function launchService<C extends CommonConfig>(
  options: ServiceOptions<C>,
): Promise<LaunchedService> {
  const { name, version, exitCodeOf } = options;
  const config = readConfig(options.config, options.env);
  const log = new Log({
    service: name,
    instance: config.INSTANCE,
    level: config.LOG_LEVEL,
    format: config.LOG_FORMAT,
  });
  log.info('starting', {
    version,
    node: process.version,
    pid: process.pid,
    config: shownConfig(options.config, config),
  });

  const metrics = createMetrics(name, version);
  const watch = new EventLoopWatch(stallMemoryMilliseconds);
  const closers: (() => Promise<void>)[] = [];
  const lifecycle = new Lifecycle({
    log,
    watch,
    shutdownSeconds: config.SHUTDOWN_SECONDS,
    exitCodeOf,
    close: async () => {
      watch.stop();
      await Promise.all(closers.map((close) => close()));
      log.flush();
    },
  });
  const app = await createApp(lifecycle, metrics.page, log);
  const tracer = openTracer(name, version, config, { metrics, log });
  // Half of what the service leaves for closing: that a collector is away must not make it exit late.
  closers.push(
    () => app.close(),
    () => tracer.close(config.SHUTDOWN_SECONDS * 50),
  );
  const port = await listen(app, config.HOST, config.PORT);
  watch.start();
  log.info('listening', { port, host: config.HOST });

  const { signal, waits } = lifecycle;
  lifecycle.begin(() =>
    options.start({
      config,
      log,
      metrics,
      tracer,
      signal,
      fatal: (error, exitCode) => {
        lifecycle.fail(error, exitCode);
      },
      waitFor: (what, attempt, wait) => waitFor(what, attempt, { log, signal, waits, ...wait }),
    }),
  );
  return {
    port,
    log,
    exit: lifecycle.exit,
    stop: (reason) => {
      lifecycle.stop(reason);
    },
  };
}

/** A probe or a scrape is a line and some headers; who takes longer to send them is a fault, or worse. */
const requestMilliseconds = 5_000;
/** Probes, Prometheus and a curious operator: more would only cost the service its memory and files. */
const mostConnections = 100;

/** As much of Fastify's as is used where the adapter's types don't reach. */
interface Reply {
  code(status: number): { send(): unknown };
}

async function createApp(
  lifecycle: Lifecycle,
  page: MetricsPage,
  log: Log,
): Promise<NestFastifyApplication> {
  const adapter = new FastifyAdapter({
    // Otherwise a scraper's idle connection holds up the shutdown.
    forceCloseConnections: true,
    connectionTimeout: 10_000,
    requestTimeout: requestMilliseconds,
    http: {
      headersTimeout: requestMilliseconds,
      // Else Node looks for slow requests every 30 s only.
      connectionsCheckingInterval: 1_000,
      maxHeaderSize: 8_192,
    },
    // Of a URL that can't be decoded; like every other answer, it doesn't repeat what was asked for.
    frameworkErrors: (_error: unknown, _request: unknown, reply: Reply) => {
      void reply.code(404).send();
    },
  });
  // Before any body is read.
  adapter.getInstance().addHook('onRequest', (request, reply, done) => {
    if (request.is404) {
      void reply.code(404).send();
    } else {
      done();
    }
  });
  adapter.getInstance().server.maxConnections = mostConnections;
  return await NestFactory.create<NestFastifyApplication>(
    HealthModule.of(lifecycle, page),
    adapter,
    { logger: nestLogger(log), abortOnError: false, bodyParser: false },
  );
}

async function listen(app: NestFastifyApplication, host: string, port: number): Promise<number> {
  try {
    await app.listen(port, host);
  } catch (error) {
    await app.close();
    throw new ServiceError(
      'CONFIG',
      `PORT ${port} of HOST ${host} can't be listened on: ${messageOf(error)}. Set PORT to a free one, or to 0 for any`,
      { cause: error },
    );
  }
  const address = app.getHttpServer().address();
  if (address === null || typeof address === 'string') {
    throw new ServiceError('INTERNAL', 'The HTTP server has no port.');
  }
  return address.port;
}

/** Nest's own life is told at debug level: the service's is what matters. */
function nestLogger(log: Log): LoggerService {
  const write =
    (level: 'debug' | 'warn' | 'error' | 'fatal') =>
    (message: unknown, ...details: unknown[]): void => {
      const nest = details.filter((detail) => detail !== undefined);
      if (message instanceof Error) {
        log.write(level, message.message, { error: message, nest });
      } else {
        log.write(level, String(message), { nest });
      }
    };
  return {
    log: write('debug'),
    debug: write('debug'),
    verbose: write('debug'),
    warn: write('warn'),
    error: write('error'),
    fatal: write('fatal'),
  };
}
