import { afterEach, beforeEach, describe, expect, test, vi } from 'vitest';
import { ServiceError } from './errors.ts';
import { EventLoopWatch } from './event-loop-watch.ts';
import { exitCodes } from './exit-codes.ts';
import { Lifecycle } from './lifecycle.ts';
import type { LifecycleOptions, RunningService } from './lifecycle.ts';
import { Log } from './log.ts';

const lines: Record<string, unknown>[] = [];
const log = new Log({
  service: 's',
  instance: 'i',
  level: 'debug',
  write: (line) => {
    lines.push(JSON.parse(line) as Record<string, unknown>);
  },
});

let now = 0;
let watch: EventLoopWatch;

beforeEach(() => {
  lines.length = 0;
  vi.useFakeTimers();
  now = 0;
  watch = new EventLoopWatch(10_000, () => now);
});
afterEach(() => {
  vi.useRealTimers();
});

function makeLifecycle(options: Partial<LifecycleOptions> = {}): Lifecycle {
  return new Lifecycle({
    log,
    watch,
    shutdownSeconds: 10,
    close: () => Promise.resolve(),
    ...options,
  });
}

function makeService(own: Partial<RunningService> = {}): RunningService {
  return {
    ready: () => ({ ok: true, details: { joined: true } }),
    stop: () => Promise.resolve(),
    ...own,
  };
}

async function running(
  own: Partial<RunningService> = {},
  options: Partial<LifecycleOptions> = {},
): Promise<Lifecycle> {
  const lifecycle = makeLifecycle(options);
  lifecycle.begin(() => Promise.resolve(makeService(own)));
  await vi.advanceTimersByTimeAsync(0);
  expect(lifecycle.phase).toBe('running');
  return lifecycle;
}

const hang = () => new Promise<never>(() => undefined);

describe('stopping', () => {
  test('lets the service end, then closes, then exits with 0', async () => {
    const order: string[] = [];
    const left: number[] = [];
    const lifecycle = await running(
      {
        stop: (deadline) => {
          left.push(deadline);
          order.push('stop');
          return Promise.resolve();
        },
      },
      {
        close: () => {
          order.push('close');
          return Promise.resolve();
        },
      },
    );
    expect(lifecycle.signal.aborted).toBe(false);
    lifecycle.stop('SIGTERM');
    expect(lifecycle.signal.aborted).toBe(true);
    expect(lifecycle.ready().ok).toBe(false);
    expect(lifecycle.live().ok).toBe(true);
    lifecycle.stop('SIGTERM');
    await expect(lifecycle.exit).resolves.toBe(exitCodes.ok);
    expect(order).toEqual(['stop', 'close']);
    expect(left[0]).toBeGreaterThan(0);
    expect(left[0]).toBeLessThan(10_000);
    expect(vi.getTimerCount()).toBe(0);
  });

  test('of a service that does not end exits at the deadline, and says so in the code', async () => {
    const lifecycle = await running({ stop: hang });
    const exited = vi.fn<(code: number) => void>();
    void lifecycle.exit.then(exited);
    lifecycle.stop('SIGTERM');
    await vi.advanceTimersByTimeAsync(9_999);
    expect(exited).not.toHaveBeenCalled();
    await vi.advanceTimersByTimeAsync(1);
    expect(exited).toHaveBeenCalledWith(exitCodes.stuck);
  });

  test('that fails exits with internal', async () => {
    const lifecycle = await running({ stop: () => Promise.reject(new Error('no')) });
    lifecycle.stop('SIGTERM');
    await expect(lifecycle.exit).resolves.toBe(exitCodes.internal);
  });

  test('while starting gives the start up, and exits with 0', async () => {
    const lifecycle = makeLifecycle();
    lifecycle.begin(async () => {
      const { promise, reject } = Promise.withResolvers<RunningService>();
      lifecycle.signal.addEventListener('abort', () => {
        reject(lifecycle.signal.reason as Error);
      });
      return await promise;
    });
    lifecycle.stop('SIGTERM');
    await expect(lifecycle.exit).resolves.toBe(exitCodes.ok);
    expect(lines.some(({ level }) => level === 'fatal')).toBe(false);
  });

  test('stops a service whose start came to its end all the same', async () => {
    const lifecycle = makeLifecycle();
    const { promise, resolve } = Promise.withResolvers<RunningService>();
    lifecycle.begin(() => promise);
    lifecycle.stop('SIGTERM');
    const stop = vi.fn<RunningService['stop']>(() => Promise.resolve());
    resolve(makeService({ stop }));
    await expect(lifecycle.exit).resolves.toBe(exitCodes.ok);
    expect(stop).toHaveBeenCalledOnce();
  });
});

describe('a failure', () => {
  test('fails liveness, stops the service and exits with the code given', async () => {
    const stop = vi.fn<RunningService['stop']>(() => Promise.resolve());
    const lifecycle = await running({ stop });
    lifecycle.fail(new Error('taken over'), exitCodes.fenced);
    expect(lifecycle.live()).toEqual({ ok: false, details: { failure: 'taken over' } });
    lifecycle.fail(new Error('a consequence'), exitCodes.internal);
    await expect(lifecycle.exit).resolves.toBe(exitCodes.fenced);
    expect(stop).toHaveBeenCalledOnce();
    expect(lines.find(({ level }) => level === 'fatal')).toMatchObject({
      message: 'taken over',
      exitCode: exitCodes.fenced,
    });
  });

  test('keeps its code where stopping gets stuck, and where it comes while stopping', async () => {
    const first = await running({ stop: hang });
    first.fail(new Error('x'), exitCodes.fenced);
    await vi.advanceTimersByTimeAsync(10_000);
    await expect(first.exit).resolves.toBe(exitCodes.fenced);

    const second = await running({ stop: hang });
    second.stop('SIGTERM');
    second.fail(new Error('x'), exitCodes.fenced);
    await vi.advanceTimersByTimeAsync(10_000);
    await expect(second.exit).resolves.toBe(exitCodes.fenced);
  });

  test.each([
    [new ServiceError('DEFINITION', 'x'), exitCodes.definition],
    [new ServiceError('FENCED', 'x'), exitCodes.fenced],
    [new RangeError('x'), exitCodes.unavailable],
    [new Error('x'), exitCodes.internal],
    ['a text', exitCodes.internal],
  ])('to start with %s has the exit code %i', async (error, code) => {
    const lifecycle = makeLifecycle({
      exitCodeOf: (unknown) => (unknown instanceof RangeError ? exitCodes.unavailable : undefined),
    });
    lifecycle.begin(() => {
      throw error;
    });
    await expect(lifecycle.exit).resolves.toBe(code);
  });
});

describe('health', () => {
  test('tells what the service waits for while it starts', () => {
    const lifecycle = makeLifecycle();
    lifecycle.begin(hang);
    lifecycle.waits.set('Kafka', 'refused');
    expect(lifecycle.ready()).toEqual({
      ok: false,
      details: { waitingFor: { Kafka: 'refused' } },
    });
    expect(lifecycle.live().ok).toBe(true);
  });

  test('is what the service says', async () => {
    const health = { ok: false, details: { joined: false } };
    const lifecycle = await running({ ready: () => health });
    expect(lifecycle.ready()).toEqual(health);
    expect(lifecycle.live().ok).toBe(true);
    const dead = await running({ live: () => health });
    expect(dead.ready().ok).toBe(true);
    expect(dead.live()).toEqual(health);
  });

  test('that throws is a no, not a crash', async () => {
    const lifecycle = await running({
      ready: () => {
        throw new Error('bug');
      },
    });
    expect(lifecycle.ready()).toEqual({ ok: false, details: { error: 'bug' } });
  });

  test('fails liveness when JavaScript did not run for long', async () => {
    const lifecycle = await running();
    now = 10_000;
    expect(lifecycle.live().ok).toBe(true);
    now = 40_000;
    expect(lifecycle.live().ok).toBe(false);
  });
});
