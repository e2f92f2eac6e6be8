import fc from 'fast-check';
import { expect, it } from 'vitest';
import { timestamp } from './timestamp.ts';

it('keeps every microsecond, also before 1970', () => {
  expect(timestamp(0n)).toBe('1970-01-01T00:00:00.000000Z');
  expect(timestamp(-1n)).toBe('1969-12-31T23:59:59.999999Z');
  expect(timestamp(1_793_600_000_123_456n)).toBe('2026-11-02T06:13:20.123456Z');
  fc.assert(
    fc.property(fc.bigInt({ min: -(10n ** 16n), max: 10n ** 17n }), (microseconds) => {
      const text = timestamp(microseconds);
      const whole = BigInt(Date.parse(`${text.slice(0, 23)}Z`));
      expect(whole * 1000n + BigInt(text.slice(23, 26))).toBe(microseconds);
    }),
  );
});

it('stays within the years 1 to 9999, which Postgres takes', () => {
  expect(timestamp(-62_135_596_805_000_000n)).toBe('0001-01-01T00:00:00.000000Z');
  expect(timestamp(2n ** 63n - 1n)).toBe('9999-12-31T23:59:59.999999Z');
  expect(timestamp(-(2n ** 63n))).toBe('0001-01-01T00:00:00.000000Z');
});
