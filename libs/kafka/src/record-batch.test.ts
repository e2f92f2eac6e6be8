import { crc32c } from '@node-rs/crc32';
import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { type Codec, codecs, compress } from './compression.ts';
import { KafkaError } from './errors.ts';
import { encodeBatch, type SampleRecord } from './kafkajs-internals.ts';
import {
  copyRecord,
  type KafkaRecord,
  readHeaders,
  recordAt,
  visitHeaders,
  walk,
} from './record-batch.ts';

function records(batch: Buffer, from?: bigint, maxBytes?: number): KafkaRecord[] {
  const found: KafkaRecord[] = [];
  walk(batch, (...record) => found.push(copyRecord(...record)), {
    ...(from === undefined ? {} : { from }),
    ...(maxBytes === undefined ? {} : { maxBytes }),
  });
  return found;
}

/** A batch that kafkajs encoded, with its records compressed by us. */
async function compressed(codec: Codec, sample: SampleRecord[], body?: Buffer): Promise<Buffer> {
  const plain = await encodeBatch(sample);
  const batch = Buffer.concat([plain.subarray(0, 61), body ?? compress(codec, plain.subarray(61))]);
  batch.writeInt16BE(codecs.indexOf(codec), 21);
  return sealed(batch);
}

/** With the length and checksum that its bytes should have. */
function sealed(batch: Buffer): Buffer {
  batch.writeInt32BE(batch.length - 12, 8);
  batch.writeUInt32BE(crc32c(batch.subarray(21)) >>> 0, 17);
  return batch;
}

function errorOf(work: () => unknown): KafkaError {
  try {
    work();
  } catch (error) {
    if (error instanceof KafkaError) {
      return error;
    }
    throw error;
  }
  throw new Error('It did not throw');
}

const bytes = fc.uint8Array({ maxLength: 300 }).map((array) => Buffer.from(array));
const maybeBytes = fc.option(bytes, { nil: null });
const sampleRecords = fc.array(
  fc.record({
    key: maybeBytes,
    value: maybeBytes,
    timestamp: fc.integer({ min: 0, max: 4_102_444_800_000 }),
    headers: fc.dictionary(fc.string({ minLength: 1, maxLength: 20 }), bytes, { maxKeys: 3 }),
  }),
  { minLength: 1, maxLength: 40 },
);

describe('walk', () => {
  it('visits what a producer encoded, whatever the compression', async () => {
    await fc.assert(
      fc.asyncProperty(
        sampleRecords,
        fc.constantFrom(...codecs),
        fc.bigInt(0n, 2n ** 52n),
        async (sample, codec, firstOffset) => {
          const batch = await compressed(codec, sample);
          batch.writeBigInt64BE(firstOffset, 0);
          expect(records(batch)).toEqual(
            sample.map(({ key, value, timestamp, headers }, index) => ({
              offset: firstOffset + BigInt(index),
              timestamp,
              key,
              value,
              headers: Object.entries(headers).map(([name, content]) => ({
                key: name,
                value: content,
              })),
            })),
          );
        },
      ),
    );
  });

  it('skips the records in front of the expected offset', async () => {
    const batch = await compressed(
      'none',
      ['a', 'b', 'c'].map((text) => ({ value: Buffer.from(text) })),
    );
    batch.writeBigInt64BE(1000n, 0);
    expect(records(batch, 1001n).map(({ value }) => String(value))).toEqual(['b', 'c']);
    expect(records(batch, 5000n)).toEqual([]);
    expect(records(batch, 3n)).toHaveLength(3);
  });

  it('gives each record the time of appending where the topic says so', async () => {
    const batch = await compressed('none', [{ value: null, timestamp: 5 }, { value: null }]);
    batch.writeInt16BE(0x08, 21);
    batch.writeBigInt64BE(1_700_000_000_123n, 35);
    expect(records(sealed(batch)).map(({ timestamp }) => timestamp)).toEqual([
      1_700_000_000_123, 1_700_000_000_123,
    ]);
  });

  it('reads snappy as the JVM clients write it, in blocks', async () => {
    const sample = Array.from({ length: 50 }, (_, index) => ({ value: Buffer.from(`v${index}`) }));
    const body = (await encodeBatch(sample)).subarray(61);
    const blocks = [body.subarray(0, 100), body.subarray(100)].flatMap((part) => {
      const block = compress('snappy', part);
      const size = Buffer.alloc(4);
      size.writeInt32BE(block.length);
      return [size, block];
    });
    const header = Buffer.from('82534e41505059000000000100000001', 'hex');
    const batch = await compressed('snappy', sample, Buffer.concat([header, ...blocks]));
    expect(records(batch).map(({ value }) => String(value))).toEqual(
      sample.map(({ value }) => String(value)),
    );
  });

  it('refuses a batch of which any bit behind its header is wrong', async () => {
    const batch = await compressed('none', [
      { key: Buffer.from('k'), value: Buffer.from('value') },
    ]);
    for (let at = 17; at < batch.length; at++) {
      const damaged = Buffer.from(batch);
      damaged[at]! ^= 1;
      expect(errorOf(() => records(damaged)).code).toBe('CORRUPT_BATCH');
    }
  });

  it('never reads outside of a batch, however its lengths lie', () => {
    fc.assert(
      fc.property(fc.uint8Array({ minLength: 0, maxLength: 200 }), fc.nat(50), (junk, count) => {
        const batch = Buffer.concat([Buffer.alloc(61), junk]);
        batch[16] = 2;
        batch.writeInt32BE(0x7fff_ffff, 23);
        batch.writeInt32BE(count, 57);
        sealed(batch);
        try {
          walk(batch, (view, _o, _t, valueStart, valueEnd, keyStart, keyEnd, start, end) => {
            for (const at of [valueStart, valueEnd, keyStart, keyEnd, start, end]) {
              expect(at).toBeLessThanOrEqual(view.length);
            }
          });
        } catch (error) {
          expect(error).toBeInstanceOf(KafkaError);
        }
      }),
    );
  });

  it.each(['gzip', 'snappy', 'lz4', 'zstd'] as const)(
    'refuses a %s batch that grows beyond the limit, without allocating it',
    async (codec) => {
      const batch = await compressed(codec, [{ value: Buffer.alloc(3_000_000) }]);
      expect(errorOf(() => records(batch, 0n, 1_000_000)).code).toBe('BATCH_TOO_LARGE');
      expect(records(batch, 0n, 4_000_000)).toHaveLength(1);
    },
  );

  it.each(['gzip', 'snappy', 'lz4', 'zstd'] as const)(
    'refuses bytes that are not %s, and names the offset',
    async (codec) => {
      const batch = await compressed(
        codec,
        [{ value: null }],
        Buffer.from('this is not compressed'),
      );
      batch.writeBigInt64BE(77n, 0);
      const error = errorOf(() => records(batch));
      expect(error).toMatchObject({ code: 'CORRUPT_BATCH', offset: 77n });
      expect(error.message).toContain('77');
    },
  );

  it('refuses the message formats of old with the offset at hand', () => {
    const batch = Buffer.alloc(40);
    batch.writeBigInt64BE(12n, 0);
    batch[16] = 1;
    expect(errorOf(() => records(batch))).toMatchObject({
      code: 'UNSUPPORTED_FORMAT',
      offset: 12n,
    });
  });
});

describe('recordAt', () => {
  it('copies the one record, and says null where there is none', async () => {
    const batch = await compressed('zstd', [
      { value: Buffer.from('a') },
      { key: Buffer.from('k'), value: null, headers: { h: Buffer.from('x') }, timestamp: 9 },
    ]);
    batch.writeBigInt64BE(10n, 0);
    expect(recordAt(batch, 11n)).toEqual({
      offset: 11n,
      timestamp: 9,
      key: Buffer.from('k'),
      value: null,
      headers: [{ key: 'h', value: Buffer.from('x') }],
    });
    expect(recordAt(batch, 12n)).toBeNull();
  });
});

describe('headers', () => {
  // Three of them: a=x, b without a value, and a again, empty.
  const encoded = Buffer.from([6, 2, 97, 2, 120, 2, 98, 1, 2, 97, 0]);
  const among = Buffer.concat([Buffer.alloc(3, 0xff), encoded, Buffer.alloc(3, 0xff)]);
  const end = among.length - 3;
  const expected = [
    { key: 'a', value: Buffer.from('x') },
    { key: 'b', value: null },
    { key: 'a', value: Buffer.alloc(0) },
  ];

  it('are visited in their order, whatever the visitor reads meanwhile', () => {
    expect(readHeaders(among, 3, end)).toEqual(expected);
    const found: string[] = [];
    visitHeaders(among, 3, end, (visited, keyStart, keyEnd, valueStart, valueEnd) => {
      expect(readHeaders(among, 3, end)).toEqual(expected);
      found.push(`${visited.toString('utf8', keyStart, keyEnd)} ${valueStart} ${valueEnd}`);
    });
    expect(found).toEqual(['a 7 8', 'b -1 -1', 'a 14 14']);
  });

  it('are refused where one passes the end of the record, or has no key', () => {
    for (let cut = 4; cut < end; cut++) {
      expect(errorOf(() => readHeaders(among, 3, cut)).code).toBe('CORRUPT_BATCH');
    }
    expect(errorOf(() => readHeaders(Buffer.from([2, 1, 2, 97]), 0, 4)).code).toBe('CORRUPT_BATCH');
  });
});
