import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { splitIntoSends } from './sends.ts';

describe('splitIntoSends', () => {
  const messages = fc.array(
    fc.record({
      topic: fc.constantFrom('a', 'b'),
      partition: fc.nat(3),
      value: fc.integer({ min: 0, max: 400 }).map((size) => Buffer.alloc(size)),
    }),
    { maxLength: 100 },
  );

  it('keeps every message, the order of each partition, and all limits', () => {
    fc.assert(
      fc.property(messages, (given) => {
        const numbered = given.map((message, index) => ({ ...message, timestamp: index }));
        const limits = { messages: 5, batchBytes: 1_000, sendBytes: 2_500 };
        const sends = splitIntoSends(numbered, limits);
        const sent = sends.flatMap((send) => send.flatMap((part) => part.messages));
        expect(new Set(sent)).toEqual(new Set(numbered));
        expect(sent).toHaveLength(numbered.length);
        for (const lane of Map.groupBy(sent, (m) => `${m.topic}/${m.partition}`).values()) {
          const order = lane.map(({ timestamp }) => timestamp);
          expect(order).toEqual(order.toSorted((a, b) => a - b));
        }
        for (const send of sends) {
          const inSend = send.flatMap((part) => part.messages);
          const sizeOf = (list: typeof inSend): number =>
            list.reduce((sum, { value }) => sum + value.length + 40, 0);
          expect(sizeOf(inSend)).toBeLessThanOrEqual(limits.sendBytes);
          for (const lane of Map.groupBy(inSend, (m) => `${m.topic}/${m.partition}`).values()) {
            expect(lane.length).toBeLessThanOrEqual(limits.messages);
            expect(sizeOf(lane)).toBeLessThanOrEqual(limits.batchBytes);
          }
        }
      }),
    );
  });

  it('sends a message that is larger than every limit, alone', () => {
    const value = Buffer.alloc(5_000);
    const message = { topic: 'a', partition: 0, value };
    const limits = { messages: 5, batchBytes: 1_000, sendBytes: 2_500 };
    expect(splitIntoSends([message, message], limits)).toHaveLength(2);
  });
});
