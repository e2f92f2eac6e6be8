import fc from 'fast-check';
import { expect, it } from 'vitest';
import { formatDuration, formatSize, parseDuration, parseSize } from './quantity.ts';

it.each([
  ['500ms', 500],
  ['5s', 5000],
  ['1.1s', 1100],
  ['1.5m', 90_000],
  ['2h', 7_200_000],
  ['1 d', 86_400_000],
  ['0s', 0],
  ['0.5ms', null],
  ['5', null],
  ['-5s', null],
  ['5S', null],
  ['1e3s', null],
  ['999999999999d', null],
])('the duration %s is %s ms', (text, expected) => {
  expect(parseDuration(text)).toBe(expected);
});

it.each([
  ['1B', 1],
  ['64KiB', 65_536],
  ['1.5MiB', 1_572_864],
  ['1TiB', 1_099_511_627_776],
  ['0.3B', null],
  ['1MB', null],
])('the size %s is %s bytes', (text, expected) => {
  expect(parseSize(text)).toBe(expected);
});

it('formats what it parses', () => {
  fc.assert(
    fc.property(fc.nat({ max: 1e12 }), (value) => {
      expect(parseDuration(formatDuration(value))).toBe(value);
      expect(parseSize(formatSize(value))).toBe(value);
    }),
  );
  expect([formatDuration(60_000), formatDuration(90_000), formatSize(1024 ** 2)]).toEqual([
    '1m',
    '90s',
    '1MiB',
  ]);
});
