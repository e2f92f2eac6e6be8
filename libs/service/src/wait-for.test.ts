import { afterEach, beforeEach, describe, expect, test, vi } from 'vitest';
import { ServiceError } from './errors.ts';
import { Log } from './log.ts';
import { waitFor } from './wait-for.ts';

const lines: Record<string, unknown>[] = [];
let log: Log;
const isRefusal = (error: unknown) => (error as Error).message === 'refused';
const never = new AbortController().signal;

beforeEach(() => {
  lines.length = 0;
  log = new Log({
    service: 's',
    instance: 'i',
    write: (line) => {
      lines.push(JSON.parse(line) as Record<string, unknown>);
    },
  });
  vi.useFakeTimers();
});
afterEach(() => {
  vi.useRealTimers();
});

function failing(times: number, then: string) {
  let attempts = 0;
  return vi.fn<() => Promise<string>>(() => {
    attempts += 1;
    return attempts > times ? Promise.resolve(then) : Promise.reject(new Error('refused'));
  });
}

describe('waiting', () => {
  test('says nothing where the first attempt succeeds', async () => {
    await expect(waitFor('Kafka', failing(0, 'yes'), { log, signal: never })).resolves.toBe('yes');
    expect(lines).toEqual([]);
  });

  test('lasts as long as it takes, says for what and why, and when it is over', async () => {
    const waits = new Map<string, string>();
    const attempt = failing(500, 'yes');
    const result = waitFor('Kafka', attempt, { log, signal: never, waits });
    await vi.advanceTimersByTimeAsync(300);
    expect(waits).toEqual(new Map([['Kafka', 'refused']]));
    await vi.advanceTimersByTimeAsync(6_000_000);
    await expect(result).resolves.toBe('yes');
    expect(attempt).toHaveBeenCalledTimes(501);
    expect(waits.size).toBe(0);
    expect(lines[0]).toMatchObject({
      level: 'warn',
      message: 'waiting for Kafka',
      reason: 'refused',
    });
    expect(vi.getTimerCount()).toBe(0);
    expect(lines.at(-1)).toMatchObject({ level: 'info', message: 'no longer waiting for Kafka' });
  });

  test('pauses longer each time, up to a limit, and not in step with others', async () => {
    const times: number[] = [];
    const controller = new AbortController();
    const result = waitFor(
      'Kafka',
      () => {
        times.push(Date.now());
        return Promise.reject(new Error('refused'));
      },
      { log, signal: controller.signal, firstPause: 100, longestPause: 1000 },
    );
    result.catch(() => undefined);
    await vi.advanceTimersByTimeAsync(60_000);
    controller.abort();
    await expect(result).rejects.toThrow('aborted');
    const pauses = times.slice(1).map((time, index) => time - (times[index] ?? 0));
    expect(pauses.length).toBeGreaterThan(50);
    for (const [index, pause] of pauses.entries()) {
      const longest = Math.min(1000, 100 * 2 ** index);
      expect(pause).toBeGreaterThanOrEqual(longest * 0.75 - 1);
      expect(pause).toBeLessThanOrEqual(longest);
    }
    expect(new Set(pauses.slice(10)).size).toBeGreaterThan(5);
  });

  test('ends at once when the service stops, in a pause as in an attempt that hangs', async () => {
    for (const attempt of [failing(9, ''), () => new Promise<string>(() => undefined)]) {
      const controller = new AbortController();
      const waits = new Map<string, string>();
      const result = waitFor('Kafka', attempt, { log, signal: controller.signal, waits });
      await vi.advanceTimersByTimeAsync(10);
      expect([...waits.keys()]).toEqual(['Kafka']);
      controller.abort(new Error('stopping'));
      await expect(result).rejects.toThrow('stopping');
      expect(waits.size).toBe(0);
      expect(vi.getTimerCount()).toBe(0);
    }
  });

  test('begins no attempt once the service stops', async () => {
    const attempt = failing(0, '');
    const signal = AbortSignal.abort(new Error('stopping'));
    await expect(waitFor('Kafka', attempt, { log, signal })).rejects.toThrow('stopping');
    expect(attempt).not.toHaveBeenCalled();
  });

  test('ends with an error that it cannot mend', async () => {
    const wrong = new ServiceError('UNAVAILABLE', 'wrong password');
    await expect(
      waitFor('Postgres', () => Promise.reject(wrong), { log, signal: never }),
    ).rejects.toBe(wrong);
    await expect(
      waitFor('Postgres', failing(1, ''), { log, signal: never, isFinal: isRefusal }),
    ).rejects.toThrow('refused');
  });
});
