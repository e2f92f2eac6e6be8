import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import {
  childContext,
  formatTraceparent,
  isSampled,
  parseTraceparent,
  rangeContext,
  readTraceparent,
} from './trace-context.ts';

const hex = (digits: number) =>
  fc
    .uint8Array({ minLength: digits / 2, maxLength: digits / 2 })
    .map((bytes) => Buffer.from(bytes).toString('hex'))
    .filter((text) => /[^0]/.test(text));
const context = fc.record({ traceId: hex(32), spanId: hex(16) });

describe('the ids of a trace', () => {
  test('are those of the range, whoever works them out', () => {
    // The start of: printf 'anabranch orders 3 12' | sha256sum
    expect(rangeContext('orders', 3, 12n)).toEqual({
      traceId: 'd83fa65671396211da240a93f4006510',
      spanId: '32868d064b79f8a0',
    });
  });

  test('differ between ranges, and between spans of a trace', () => {
    fc.assert(
      fc.property(fc.nat(), fc.nat(), fc.boolean(), (a, b, other) => {
        fc.pre(a !== b);
        const one = rangeContext('orders', other ? a : 0, other ? 0n : BigInt(a));
        const two = rangeContext('orders', other ? b : 0, other ? 0n : BigInt(b));
        expect(one.traceId).not.toBe(two.traceId);
        const spans = [one, childContext(one, 'stream'), childContext(one, 'batch')];
        expect(new Set(spans.map(({ spanId }) => spanId)).size).toBe(3);
        expect(new Set(spans.map(({ traceId }) => traceId)).size).toBe(1);
      }),
    );
  });

  test('sample the share that was asked for, and a smaller share of the same', () => {
    const ids = Array.from({ length: 20_000 }, (_, i) => rangeContext('o', 0, BigInt(i)).traceId);
    const some = ids.filter((id) => isSampled(id, 0.1));
    expect(some.length).toBeGreaterThan(1800);
    expect(some.length).toBeLessThan(2200);
    expect(ids.every((id) => isSampled(id, 1))).toBe(true);
    expect(ids.some((id) => isSampled(id, 0))).toBe(false);
    expect(ids.filter((id) => isSampled(id, 0.01)).every((id) => isSampled(id, 0.1))).toBe(true);
  });
});

describe('a traceparent', () => {
  test('is read as it was written', () => {
    fc.assert(
      fc.property(context, (sent) => {
        const text = formatTraceparent(sent);
        expect(text).toHaveLength(55);
        expect(parseTraceparent(text)).toEqual({ ...sent, sampled: true });
      }),
    );
  });

  test.each([
    ['', 'empty'],
    ['00-0123456789abcdef0123456789abcdef-0123456789abcdef', 'cut'],
    ['ff-0123456789abcdef0123456789abcdef-0123456789abcdef-01', 'of the forbidden version'],
    ['00-0123456789ABCDEF0123456789ABCDEF-0123456789abcdef-01', 'in upper case'],
    ['00-00000000000000000000000000000000-0123456789abcdef-01', 'without a trace'],
    ['00-0123456789abcdef0123456789abcdef-0000000000000000-01', 'without a span'],
    ['00-0123456789abcdef0123456789abcdef-0123456789abcdef-01-more', 'too long for its version'],
  ])('%j is none: it is %s', (text) => {
    expect(parseTraceparent(text)).toBeNull();
  });

  test('of a later version may say more', () => {
    expect(
      parseTraceparent('cc-0123456789abcdef0123456789abcdef-0123456789abcdef-00-more'),
    ).toMatchObject({ spanId: '0123456789abcdef', sampled: false });
  });

  test('is looked for in whatever bytes stand in its place', () => {
    fc.assert(
      fc.property(fc.uint8Array({ maxLength: 100 }), (bytes) => {
        expect(() => readTraceparent(Buffer.from(bytes), 0, bytes.length)).not.toThrow();
      }),
    );
  });
});
