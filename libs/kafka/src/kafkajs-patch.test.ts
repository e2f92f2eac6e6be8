import fc from 'fast-check';
import { afterEach, describe, expect, it, vi } from 'vitest';
import {
  type AbortedTransaction,
  decodeMessages,
  encodeBatch,
  type FetchedMessage,
  filterAbortedMessages,
  groupMessagesPerPartition,
  RequestQueue,
} from './kafkajs-internals.ts';
import { assertPatched, kafkajs } from './patched-kafkajs.ts';
import { recordAt } from './record-batch.ts';

const abort = Buffer.from([0, 0, 0, 0]);
const commit = Buffer.from([0, 0, 0, 1]);

function message(
  offset: number,
  producer: number,
  { control, key, plain }: { control?: Buffer; key?: Buffer; plain?: boolean } = {},
): FetchedMessage {
  return {
    offset: String(offset),
    firstOffset: String(offset),
    key: control ?? key ?? Buffer.from('k'),
    value: Buffer.from('v'),
    isControlRecord: control !== undefined,
    batchContext: { producerId: String(producer), inTransaction: plain !== true },
  };
}

function delivered(
  messages: FetchedMessage[],
  abortedTransactions: AbortedTransaction[],
): number[] {
  return filterAbortedMessages({ messages, abortedTransactions })
    .filter(({ isControlRecord }) => !isControlRecord)
    .map(({ offset }) => Number(offset));
}

describe('read_committed', () => {
  it('drops two aborted transactions that began in front of the fetch', () => {
    const messages = [
      message(10, 2),
      message(11, 1),
      message(12, 2),
      message(13, 1, { control: abort }),
      message(14, 2, { control: abort }),
      message(15, 1),
    ];
    expect(
      delivered(messages, [
        { producerId: '1', firstOffset: '3' },
        { producerId: '2', firstOffset: '4' },
      ]),
    ).toEqual([15]);
  });

  it('does not trust the order in which aborted transactions are listed', () => {
    const messages = [
      message(0, 1),
      message(1, 2),
      message(2, 2, { control: abort }),
      message(3, 1),
      message(4, 1, { control: abort }),
    ];
    expect(
      delivered(messages, [
        { producerId: '2', firstOffset: '1' },
        { producerId: '1', firstOffset: '0' },
      ]),
    ).toEqual([]);
  });

  it('takes no record for a marker, whatever its key', () => {
    const messages = [
      message(0, 1),
      message(1, 1, { key: abort }),
      message(2, 1),
      message(3, 1, { control: abort }),
    ];
    expect(delivered(messages, [{ producerId: '1', firstOffset: '0' }])).toEqual([]);
  });

  it('delivers exactly the plain and the committed ones, however transactions interleave', () => {
    const step = fc.record({
      producer: fc.integer({ min: 1, max: 4 }),
      act: fc.constantFrom('write', 'write', 'write', 'plain', 'commit', 'abort'),
    });
    fc.assert(
      fc.property(fc.array(step, { maxLength: 60 }), fc.nat(20), (steps, skip) => {
        const messages: FetchedMessage[] = [];
        const open = new Map<number, number[]>();
        const expected: number[] = [];
        const aborted: AbortedTransaction[] = [];
        const end = (producer: number, marker: Buffer): void => {
          const offsets = open.get(producer);
          if (offsets) {
            open.delete(producer);
            messages.push(message(messages.length, producer, { control: marker }));
            if (marker === commit) {
              expected.push(...offsets);
            } else if (messages.length > skip) {
              // Brokers list those that end behind the offset that the fetch began at.
              aborted.push({ producerId: String(producer), firstOffset: String(offsets[0]) });
            }
          }
        };
        for (const { producer, act } of steps) {
          const offset = messages.length;
          if (act === 'write') {
            open.set(producer, [...(open.get(producer) ?? []), offset]);
            messages.push(message(offset, producer));
          } else if (act === 'plain') {
            expected.push(offset);
            messages.push(message(offset, producer, { plain: true }));
          } else {
            end(producer, act === 'commit' ? commit : abort);
          }
        }
        for (const producer of open.keys()) {
          end(producer, abort);
        }
        const fetched = messages.slice(skip);
        const found = delivered(fetched, aborted);
        expect(found.toSorted((a, b) => a - b)).toEqual(
          expected.filter((offset) => offset >= skip).toSorted((a, b) => a - b),
        );
      }),
      { numRuns: 300 },
    );
  });
});

describe('a fetch', () => {
  it('hands out record batches as they are, and leaves a cut one for the next fetch', async () => {
    const first = await encodeBatch([{ value: Buffer.from('a') }, { value: Buffer.from('b') }]);
    const second = await encodeBatch([{ value: Buffer.from('c') }], {
      transactional: true,
      producerId: 7,
    });
    second.writeBigInt64BE(2n, 0);
    const messages = await decodeMessages(
      Buffer.concat([first, second, second.subarray(0, second.length - 1)]),
    );
    expect(messages).toMatchObject([
      { firstOffset: '0', offset: '1', isControlRecord: false },
      { firstOffset: '2', offset: '2', batchContext: { producerId: '7', inTransaction: true } },
    ]);
    expect(String(recordAt(messages[0]!.value, 1n)?.value)).toBe('b');
    expect(String(recordAt(messages[1]!.value, 2n)?.value)).toBe('c');
  });

  it('takes a batch of any number of records', async () => {
    const batch = await encodeBatch([{ value: null }]);
    batch.writeInt32BE(300_000, 23);
    expect(await decodeMessages(batch)).toMatchObject([{ offset: '300000' }]);
    const many = await decodeMessages(Buffer.concat(Array.from({ length: 150_000 }, () => batch)));
    expect(many).toHaveLength(150_000);
  });

  it('fails on a batch without a size instead of looping', async () => {
    const batch = await encodeBatch([{ value: null }]);
    batch.writeInt32BE(-12, 8);
    await expect(decodeMessages(batch)).rejects.toThrow('Corrupt record batch');
  });
});

describe('a producer', () => {
  // A few milliseconds; a pass per message takes a minute.
  it('groups any number of messages of a partition in one pass', { timeout: 5_000 }, () => {
    const messages = Array.from({ length: 100_000 }, (_, index) => ({ partition: index % 2 }));
    const groups = groupMessagesPerPartition({
      topic: 't',
      partitionMetadata: [{}],
      messages,
      partitioner: ({ message: { partition } }) => partition,
    });
    expect(groups[0]).toHaveLength(50_000);
    expect(groups[1]).toHaveLength(50_000);
  });

  it('checksums with the native implementation, to the same result', async () => {
    const sample = [{ value: Buffer.from('a value with ü in it'), timestamp: 1 }];
    const before = await encodeBatch(sample);
    const native = vi.fn<(bytes: Buffer) => number>(() => 0xdead_beef | 0);
    kafkajs.anabranchPatch.useCrc32c(native);
    const after = await encodeBatch(sample);
    expect(native).toHaveBeenCalledOnce();
    expect(after.readUInt32BE(17)).toBe(0xdead_beef);
    expect(recordAt(before, 0n)).not.toBeNull();
  });
});

describe('an idle connection', () => {
  afterEach(() => vi.useRealTimers());

  it('has no timer', () => {
    vi.useFakeTimers();
    const queue = new RequestQueue({
      maxInFlightRequests: 1,
      requestTimeout: 1_000,
      enforceRequestTimeout: false,
      logger: { debug: () => {} },
    });
    queue.checkPendingRequests();
    expect(vi.getTimerCount()).toBe(0);
  });
});

describe('the patch', () => {
  it('is asked for at start, in words that say what to do', () => {
    expect(() => assertPatched(undefined)).toThrow('npm ci');
    expect(() => assertPatched({ version: 0 })).toThrow('npm ci');
    expect(() => assertPatched(kafkajs.anabranchPatch)).not.toThrow();
  });
});
