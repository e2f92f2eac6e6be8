import { gzipSync, zstdCompressSync } from 'node:zlib';
import { crc32c } from '@node-rs/crc32';
import { type Block, encodeBlock } from './block.ts';

/** For unit tests of what reads topics: what a step would get from Kafka, without one. */
export interface TestRecord {
  readonly offset: number;
  readonly value: Buffer | null;
  readonly key?: Buffer | null;
  readonly timestamp?: number;
  readonly headers?: readonly (readonly [string, Buffer | null])[];
}

const codecs = { none: 0, gzip: 1, zstd: 4 } as const;
const compress = {
  none: (body: Buffer): Buffer => body,
  gzip: (body: Buffer): Buffer => gzipSync(body),
  zstd: (body: Buffer): Buffer => zstdCompressSync(body),
};

export type TestCodec = keyof typeof codecs;

/** One record batch as Kafka stores it. */
export function recordBatch(records: readonly TestRecord[], codec: TestCodec = 'none'): Buffer {
  const base = records[0]?.offset ?? 0;
  const last = records.at(-1)?.offset ?? base;
  const body = compress[codec](
    Buffer.concat(records.map((record) => encodeRecord(record, record.offset - base))),
  );
  const batch = Buffer.concat([Buffer.alloc(61), body]);
  batch.writeBigInt64BE(BigInt(base), 0);
  batch.writeInt32BE(batch.length - 12, 8);
  batch.writeInt8(2, 16);
  batch.writeInt16BE(codecs[codec], 21);
  batch.writeInt32BE(last - base, 23);
  batch.writeBigInt64BE(-1n, 43);
  batch.writeInt32BE(records.length, 57);
  batch.writeUInt32BE(crc32c(batch.subarray(21)), 17);
  return batch;
}

function encodeRecord(record: TestRecord, offsetDelta: number): Buffer {
  const { value, key = null, timestamp = 0, headers = [] } = record;
  const body = Buffer.concat([
    Buffer.of(0),
    varint(timestamp),
    varint(offsetDelta),
    bytes(key),
    bytes(value),
    varint(headers.length),
    ...headers.flatMap(([name, content]) => [bytes(Buffer.from(name)), bytes(content)]),
  ]);
  return Buffer.concat([varint(body.length), body]);
}

function bytes(content: Buffer | null): Buffer {
  return content === null ? varint(-1) : Buffer.concat([varint(content.length), content]);
}

function varint(value: number): Buffer {
  let rest = BigInt.asUintN(64, (BigInt(value) << 1n) ^ (BigInt(value) >> 63n));
  const encoded: number[] = [];
  do {
    encoded.push(Number(rest & 0x7fn) | (rest > 0x7fn ? 0x80 : 0));
    rest >>= 7n;
  } while (rest > 0n);
  return Buffer.from(encoded);
}

/** What a step gets of one partition of a topic. */
export interface TestWork {
  readonly topic: string;
  readonly partition: number;
  readonly batches: readonly Buffer[];
  readonly from: bigint;
  readonly next: bigint;
  readonly bytes: number;
  readonly highWatermark: bigint;
}

/** Messages that a topic's partition holds from an offset on, in one batch. */
export function workOf(
  topic: string,
  partition: number,
  from: bigint,
  values: readonly (Buffer | null)[],
): TestWork {
  const batch = recordBatch(values.map((value, i) => ({ offset: Number(from) + i, value })));
  const next = from + BigInt(values.length);
  const batches = values.length === 0 ? [] : [batch];
  return { topic, partition, batches, from, next, bytes: batch.length, highWatermark: next };
}

/** A block of lines with adjacent offsets from `from` on. */
export function testBlock(
  block: Partial<Omit<Block, 'payload' | 'runs'>>,
  lines: readonly string[] = [],
): Block {
  const from = block.from ?? 0n;
  const count = lines.length;
  return {
    source: 'orders',
    partition: 0,
    origin: 0n,
    from,
    to: from + BigInt(count),
    epoch: 0n,
    watermark: null,
    definition: 'v1',
    split: { stream: BigInt(count), batch: 0n, dead: 0n, rules: [BigInt(count)] },
    producedAt: 0n,
    altered: [],
    ...block,
    runs: count === 0 ? [] : [{ start: from, count }],
    payload: Buffer.from(lines.map((line) => `${line}\n`).join('')),
  };
}

/** The messages that hold these blocks. */
export function blockMessages(blocks: readonly Block[]): Buffer[] {
  return blocks.map(encodeBlock);
}
