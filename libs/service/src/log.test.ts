import { afterEach, beforeEach, describe, expect, test, vi } from 'vitest';
import { Log } from './log.ts';
import type { LogOptions } from './log.ts';

const lines: string[] = [];

function makeLog(options: Partial<LogOptions> = {}): Log {
  return new Log({
    service: 'ingest',
    instance: 'a',
    write: (line) => {
      lines.push(line);
    },
    ...options,
  });
}

function parsed(): Record<string, unknown>[] {
  return lines.map((line) => JSON.parse(line) as Record<string, unknown>);
}

beforeEach(() => {
  lines.length = 0;
  vi.useFakeTimers({ now: new Date('2026-01-02T03:04:05.678Z') });
});
afterEach(() => {
  vi.useRealTimers();
});

describe('a line', () => {
  test('is one JSON object that begins with time, level, service, instance and message', () => {
    makeLog().info('two\nlines', { port: 3000 });
    expect(lines).toEqual([
      '{"time":"2026-01-02T03:04:05.678Z","level":"info","service":"ingest","instance":"a","message":"two\\nlines","port":3000}\n',
    ]);
  });

  test('keeps its head whatever the fields are called', () => {
    makeLog().warn('text', { level: 'info', message: 'x', time: 0, service: 1, instance: 2 });
    expect(parsed()[0]).toMatchObject({ level: 'warn', message: 'text', service: 'ingest' });
  });

  test('below the level is not written', () => {
    const log = makeLog({ level: 'error' });
    log.warn('no');
    log.repeat('k', 'info', 'no');
    log.error('yes');
    log.fatal('yes');
    expect(parsed().map(({ message }) => message)).toEqual(['yes', 'yes']);
  });

  test('holds the fields of the child that writes it', () => {
    makeLog().child({ source: 'orders', partition: 1 }).info('m', { partition: 2 });
    expect(parsed()[0]).toMatchObject({ source: 'orders', partition: 2 });
  });

  test('shows no user and password of a URL, in message or field', () => {
    const url = 'postgres://me:p@ss@db:5432/x';
    makeLog().error(`no ${url}`, { url, error: new Error(`no ${url}`), DB_PASSWORD: 'p@ss' });
    expect(lines[0]).not.toContain('ss@db');
    expect(lines[0]).not.toContain('p@ss');
    expect(parsed()[0]).toMatchObject({ message: 'no postgres://***@db:5432/x' });
  });

  test('is readable in a terminal, with the stack of an error below', () => {
    const log = makeLog({ format: 'pretty' });
    log.info('listening', { port: 3000, host: 'a b' });
    log.error('failed', { error: new Error('boom') });
    // oxlint-disable-next-line no-control-regex
    const plain = lines.map((line) => line.replace(/\u001b\[\d+m/g, ''));
    expect(plain[0]).toBe('03:04:05.678 INFO  ingest listening port=3000 host="a b"\n');
    expect(plain[1]).toMatch(/^03:04:05\.678 ERROR ingest failed error="boom"\n {4}at /);
  });
});

describe('a repeated message', () => {
  test('is written once, then as a count while it lasts', () => {
    const log = makeLog({ repeatSeconds: 10 });
    for (let call = 0; call < 1000; call += 1) {
      log.repeat('retry', 'warn', 'retrying', { call });
    }
    expect(parsed()).toMatchObject([{ message: 'retrying', call: 0 }]);
    vi.advanceTimersByTime(10_000);
    expect(parsed().slice(1)).toMatchObject([{ level: 'warn', call: 999, repeated: 999 }]);
    vi.advanceTimersByTime(60_000);
    expect(lines).toHaveLength(2);
    log.repeat('retry', 'warn', 'retrying');
    expect(lines).toHaveLength(3);
    expect(parsed()[2]).not.toHaveProperty('repeated');
  });

  test('of one key hides none of another', () => {
    const log = makeLog();
    log.repeat('a', 'warn', 'a');
    log.repeat('b', 'warn', 'b');
    expect(lines).toHaveLength(2);
  });

  test('is not lost at the end', () => {
    const log = makeLog();
    log.repeat('a', 'warn', 'a');
    log.child({ x: 1 }).repeat('a', 'warn', 'a');
    log.flush();
    expect(parsed()[1]).toMatchObject({ repeated: 1, x: 1 });
    vi.advanceTimersByTime(60_000);
    expect(lines).toHaveLength(2);
    expect(vi.getTimerCount()).toBe(0);
  });

  test('with keys made of data takes no memory without end', () => {
    const log = makeLog();
    for (let key = 0; key < 5000; key += 1) {
      log.repeat(`offset ${key}`, 'warn', 'm');
    }
    expect(vi.getTimerCount()).toBeLessThan(600);
    log.flush();
  });
});
