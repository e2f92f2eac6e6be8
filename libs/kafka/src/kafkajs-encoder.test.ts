import { Writable } from 'node:stream';
import { crc32c } from '@node-rs/crc32';
import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import {
  Encoder,
  encodeProduce,
  type ProduceRequest,
  type RequestEncoder,
  type SampleRecord,
} from './kafkajs-internals.ts';
import { kafkajs } from './patched-kafkajs.ts';

/** Sizes around the one from which on buffers are referenced, and around the first buffer's. */
const size = fc.oneof(
  fc.nat(40),
  fc.integer({ min: 490, max: 530 }),
  fc.integer({ min: 16_380, max: 16_390 }),
  fc.integer({ min: 16_384, max: 50_000 }),
);
const bytes = fc
  .tuple(size, fc.nat(255))
  .map(([length, first]) => Buffer.alloc(length, Buffer.from([first, 1, 2, first + 1, 3])));

const record = fc.record({
  key: fc.option(bytes, { nil: null }),
  value: fc.option(bytes, { nil: null }),
  timestamp: fc.integer({ min: 1_600_000_000_000, max: 1_900_000_000_000 }),
  headers: fc.dictionary(fc.stringMatching(/^[a-z]{1,9}$/), bytes, { maxKeys: 2 }),
});

const produceRequest: fc.Arbitrary<ProduceRequest> = fc.record({
  transactionalId: fc.option(fc.string()),
  producerId: fc.maxSafeNat(),
  producerEpoch: fc.nat(32_767),
  acks: fc.constantFrom(-1, 1),
  timeout: fc.nat(),
  topicData: fc.array(
    fc.record({
      topic: fc.string(),
      partitions: fc.array(
        fc.record({
          partition: fc.nat(),
          firstSequence: fc.nat(),
          messages: fc.array(record, { minLength: 1, maxLength: 4 }),
        }),
        { minLength: 1, maxLength: 3 },
      ),
    }),
    { maxLength: 2 },
  ),
});

/** The protocol anew, from its description, each number and each part a buffer of its own. */
function expectedRequest(correlationId: number, clientId: string, request: ProduceRequest): Buffer {
  const { transactionalId, acks, timeout, topicData } = request;
  const content = Buffer.concat([
    int(2, 0),
    int(2, 7),
    int(4, correlationId),
    text(clientId),
    transactionalId === null ? int(2, -1) : text(transactionalId),
    int(2, acks),
    int(4, timeout),
    int(4, topicData.length),
    ...topicData.flatMap(({ topic, partitions }) => [
      text(topic),
      int(4, partitions.length),
      ...partitions.flatMap(({ partition, firstSequence, messages }) => {
        const batch = expectedBatch(request, firstSequence, messages);
        return [int(4, partition), int(4, batch.length), batch];
      }),
    ]),
  ]);
  return Buffer.concat([int(4, content.length), content]);
}

function expectedBatch(
  { transactionalId, producerId, producerEpoch }: ProduceRequest,
  firstSequence: number,
  messages: readonly SampleRecord[],
): Buffer {
  const timestamps = messages.map(({ timestamp }) => timestamp ?? 0);
  const firstTimestamp = Math.min(...timestamps);
  const checked = Buffer.concat([
    // An empty id stands for none, as kafkajs sees it.
    int(2, transactionalId ? 16 : 0),
    int(4, messages.length - 1),
    int(8, firstTimestamp),
    int(8, Math.max(...timestamps)),
    int(8, producerId),
    int(2, producerEpoch),
    int(4, firstSequence),
    int(4, messages.length),
    ...messages.flatMap(({ key, value, headers, timestamp }, index) => {
      const body = Buffer.concat([
        int(1, 0),
        varint((timestamp ?? 0) - firstTimestamp),
        varint(index),
        withLength(key ?? null),
        withLength(value),
        varint(Object.keys(headers ?? {}).length),
        ...Object.entries(headers ?? {}).flatMap(([name, content]) => [
          withLength(Buffer.from(name)),
          withLength(content),
        ]),
      ]);
      return [varint(body.length), body];
    }),
  ]);
  const batch = Buffer.concat([int(4, 0), int(1, 2), Buffer.alloc(4), checked]);
  batch.writeUInt32BE(crc32c(checked), 5);
  return Buffer.concat([int(8, 0), int(4, batch.length), batch]);
}

function int(length: 1 | 2 | 4 | 8, value: number): Buffer {
  const encoded = Buffer.alloc(8);
  encoded.writeBigInt64BE(BigInt(value));
  return encoded.subarray(8 - length);
}

function varint(value: number): Buffer {
  let left = BigInt.asUintN(64, (BigInt(value) << 1n) ^ (BigInt(value) >> 63n));
  const encoded: number[] = [];
  for (; left > 0x7fn; left >>= 7n) {
    encoded.push(Number(left & 0x7fn) | 0x80);
  }
  return Buffer.from([...encoded, Number(left)]);
}

function text(value: string): Buffer {
  const encoded = Buffer.from(value);
  return Buffer.concat([int(2, encoded.length), encoded]);
}

function withLength(value: Buffer | null): Buffer {
  return value === null ? varint(-1) : Buffer.concat([varint(value.length), value]);
}

/** What goes through a connection, and in which pieces. */
function written(encoder: RequestEncoder): { all: Buffer; chunks: Buffer[]; writes: number } {
  const chunks: Buffer[] = [];
  let writes = 0;
  const connection = new Writable({
    // As a socket's, so that writes wait for one another.
    highWaterMark: 1024,
    write(chunk: Buffer, _encoding, done) {
      writes++;
      chunks.push(chunk);
      done();
    },
    writev(queued, done) {
      writes++;
      chunks.push(...queued.map(({ chunk }) => chunk as Buffer));
      done();
    },
  });
  encoder.writeTo(connection);
  return { all: Buffer.concat(chunks), chunks, writes };
}

const isViewOf = (chunk: Buffer, whole: Buffer): boolean =>
  chunk.buffer === whole.buffer && chunk.byteOffset === whole.byteOffset;

describe('a request of a producer', () => {
  for (const implementation of ['JavaScript', 'native'] as const) {
    it(`is what the protocol says, byte for byte, with the checksum in ${implementation}`, async () => {
      if (implementation === 'native') {
        kafkajs.anabranchPatch.useCrc32c(crc32c);
      }
      await fc.assert(
        fc.asyncProperty(
          fc.nat(),
          fc.string(),
          produceRequest,
          async (correlationId, clientId, request) => {
            const encoder = await encodeProduce(correlationId, clientId, request);
            const expected = expectedRequest(correlationId, clientId, request);
            expect(encoder.size()).toBe(expected.length);
            expect(written(encoder).all.equals(expected)).toBe(true);
            expect(encoder.buffer.equals(expected)).toBe(true);
          },
        ),
        { numRuns: 60 },
      );
    });
  }

  it('has large values in it as they are, and is one write', async () => {
    const values = [1, 2].map((fill) => Buffer.alloc(1_000_000, fill));
    const encoder = await encodeProduce(1, 'client', {
      transactionalId: 'id',
      producerId: 1,
      producerEpoch: 0,
      acks: -1,
      timeout: 1_000,
      topicData: [
        {
          topic: 'orders.stream',
          partitions: values.map((value, partition) => ({
            partition,
            firstSequence: 0,
            messages: [{ value, timestamp: 1_700_000_000_000 }],
          })),
        },
      ],
    });
    const { chunks, writes } = written(encoder);
    for (const value of values) {
      expect(chunks.some((chunk) => isViewOf(chunk, value))).toBe(true);
    }
    // What stands in front of each value, and the number of headers behind the last one.
    expect(chunks).toHaveLength(5);
    expect(writes).toBe(1);
  });
});

describe('an encoder', () => {
  type Content = Buffer | number | Content[];
  const { content } = fc.letrec<{ content: Content }>((tie) => ({
    content: fc.oneof(
      { maxDepth: 4, withCrossShrink: true },
      fc.nat(127),
      bytes,
      fc.array(tie('content'), { maxLength: 5 }),
    ),
  }));

  function encode(nested: Content[]): RequestEncoder {
    const encoder = new Encoder();
    for (const item of nested) {
      if (typeof item === 'number') {
        encoder.writeInt8(item);
      } else if (Buffer.isBuffer(item)) {
        encoder.writeBytes(item);
      } else {
        encoder.writeEncoder(encode(item));
      }
    }
    return encoder;
  }

  const flat = (nested: Content[]): Buffer =>
    Buffer.concat(
      nested.map((item) =>
        typeof item === 'number'
          ? int(1, item)
          : Buffer.isBuffer(item)
            ? Buffer.concat([int(4, item.length), item])
            : flat(item),
      ),
    );

  it('holds what was written, in its order, however deep it was nested', () => {
    fc.assert(
      fc.property(fc.array(content, { maxLength: 8 }), (nested) => {
        const encoder = encode(nested);
        const expected = flat(nested);
        expect(encoder.size()).toBe(expected.length);
        expect(encoder.buffer.equals(expected)).toBe(true);
        expect(Buffer.concat(encoder.parts).equals(expected)).toBe(true);
        // A look at it changes nothing.
        encoder.writeInt8(1);
        expect(encoder.buffer.equals(Buffer.concat([expected, int(1, 1)]))).toBe(true);
      }),
      { numRuns: 200 },
    );
  });

  it('keeps what it was taken into when it is written on', () => {
    const inner = new Encoder().writeBytes(Buffer.alloc(16_380, 1)).writeInt8(2);
    const outer = new Encoder().writeEncoder(inner);
    const before = Buffer.from(outer.buffer);
    inner.writeBytes(Buffer.alloc(20_000, 3)).writeInt8(4);
    outer.writeInt8(5);
    expect(outer.buffer.equals(Buffer.concat([before, int(1, 5)]))).toBe(true);
  });
});
