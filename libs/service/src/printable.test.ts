import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import { messageOf, printable } from './printable.ts';

describe('printable', () => {
  test('gives JSON for any value at all', () => {
    fc.assert(
      fc.property(
        fc.anything({ withBigInt: true, withMap: true, withSet: true, withTypedArray: true }),
        (value) => {
          expect(() => JSON.stringify(printable(value))).not.toThrow();
        },
      ),
    );
  });

  test('ends where a value holds itself', () => {
    const value: Record<string, unknown> = { a: 1 };
    value['self'] = value;
    const error = new Error('x');
    error.cause = error;
    expect(() => JSON.stringify(printable({ value, error }))).not.toThrow();
  });

  test('shows of bytes only their number, of long texts the beginning, of many items some', () => {
    expect(printable({ value: Buffer.from('secret payload') })).toEqual({ value: '<14 bytes>' });
    expect((printable('x'.repeat(100_000)) as string).length).toBeLessThan(5000);
    expect(printable(Array.from({ length: 1000 }, () => 1))).toHaveLength(51);
  });

  test('keeps offsets readable', () => {
    expect(printable({ offset: 12n, huge: 2n ** 63n })).toEqual({
      offset: 12,
      huge: '9223372036854775808',
    });
  });

  test("shows an error's code, ids and causes, and not what else hangs on it", () => {
    const cause = Object.assign(new Error('duplicate key'), {
      code: '23505',
      table: 'orders',
      detail: 'Key (name)=(Alice) already exists.',
    });
    const error = Object.assign(new Error('halted', { cause }), { partition: 3, offset: 7n });
    const shown = printable(error);
    expect(shown).toMatchObject({
      name: 'Error',
      message: 'halted',
      partition: 3,
      offset: 7,
      stack: expect.stringMatching(/^ {4}at /) as string,
      cause: { message: 'duplicate key', code: '23505', table: 'orders' },
    });
    expect(JSON.stringify(shown)).not.toContain('Alice');
  });
});

describe('the message of an error', () => {
  test('is never empty', () => {
    const refused = new AggregateError([
      new Error('connect ECONNREFUSED ::1:9092'),
      new Error('connect ECONNREFUSED 127.0.0.1:9092'),
    ]);
    expect(messageOf(refused)).toBe(
      'connect ECONNREFUSED ::1:9092; connect ECONNREFUSED 127.0.0.1:9092',
    );
    expect(messageOf(Object.assign(new Error(), { code: 'EPIPE' }))).toBe('EPIPE');
    expect(messageOf(new TypeError())).toBe('TypeError');
    expect(messageOf('text')).toBe('text');
    expect(messageOf(undefined)).toBe('undefined');
    expect(messageOf(7n)).toBe('7');
  });
});
