import zlib from 'node:zlib';
import { compressFrameSync, decompressFrameSync } from 'lz4-napi';
import { compressSync, uncompressSync } from 'snappy';
import { KafkaError } from './errors.ts';

/** As the low three bits of a record batch's attributes count them. */
export const codecs = ['none', 'gzip', 'snappy', 'lz4', 'zstd'] as const;
export type Codec = (typeof codecs)[number];

/** Compresses the records of a batch as Kafka's own clients do. */
export function compress(codec: Codec, records: Buffer): Buffer {
  switch (codec) {
    case 'none':
      return records;
    case 'gzip':
      return zlib.gzipSync(records);
    case 'snappy':
      return compressSync(records);
    case 'lz4':
      return compressFrameSync(records);
    case 'zstd':
      return zlib.zstdCompressSync(records);
  }
}

/**
 * Decompresses the records of a batch, to at most `maxBytes`.
 *
 * @throws KafkaError BATCH_TOO_LARGE, or CORRUPT_BATCH when it isn't the codec's format.
 */
export function decompress(codec: Codec, body: Buffer, maxBytes: number): Buffer {
  try {
    switch (codec) {
      case 'none':
        return body;
      case 'gzip':
        return zlib.gunzipSync(body, { maxOutputLength: maxBytes });
      case 'snappy':
        return isXerial(body) ? uncompressXerial(body, maxBytes) : uncompress(body, maxBytes);
      case 'lz4':
        refuseAbove(maxBytes, largestLz4Size(body));
        return decompressFrameSync(body);
      case 'zstd':
        return zlib.zstdDecompressSync(body, { maxOutputLength: maxBytes });
    }
  } catch (error) {
    if (error instanceof KafkaError) {
      throw error;
    }
    if ((error as NodeJS.ErrnoException).code === 'ERR_BUFFER_TOO_LARGE') {
      throw tooLarge(maxBytes, error);
    }
    throw new KafkaError('CORRUPT_BATCH', `A record batch isn't valid ${codec}`, { cause: error });
  }
}

function tooLarge(maxBytes: number, cause?: unknown): KafkaError {
  return new KafkaError(
    'BATCH_TOO_LARGE',
    `A record batch decompresses to more than ${maxBytes} bytes: raise the limit or let the producer send smaller batches`,
    { cause },
  );
}

function refuseAbove(maxBytes: number, size: number): void {
  if (size > maxBytes) {
    throw tooLarge(maxBytes);
  }
}

/** What snappy-java, and so the JVM clients, put in front of blocks: a magic and two versions. */
const xerialMagic = Buffer.from([0x82, 0x53, 0x4e, 0x41, 0x50, 0x50, 0x59, 0x00]);
const xerialHeader = 16;

function isXerial(body: Buffer): boolean {
  return body.length >= xerialHeader && body.compare(xerialMagic, 0, 8, 0, 8) === 0;
}

function uncompressXerial(body: Buffer, maxBytes: number): Buffer {
  const blocks: Buffer[] = [];
  let total = 0;
  for (let at = xerialHeader; at < body.length;) {
    const size = body.readInt32BE(at);
    const end = at + 4 + size;
    if (size <= 0 || end > body.length) {
      throw new RangeError('A snappy block passes the end');
    }
    const block = body.subarray(at + 4, end);
    total += snappySize(block);
    refuseAbove(maxBytes, total);
    blocks.push(uncompressSync(block, { asBuffer: true }) as Buffer);
    at = end;
  }
  return blocks.length === 1 ? blocks[0]! : Buffer.concat(blocks);
}

function uncompress(block: Buffer, maxBytes: number): Buffer {
  refuseAbove(maxBytes, snappySize(block));
  return uncompressSync(block, { asBuffer: true }) as Buffer;
}

/** A snappy block begins with its uncompressed size. */
function snappySize(block: Buffer): number {
  let size = 0;
  for (let at = 0, scale = 1; at < 5; at++, scale *= 128) {
    const byte = block[at] ?? 0;
    size += (byte & 0x7f) * scale;
    if (byte < 0x80) {
      return size;
    }
  }
  throw new RangeError('A snappy block without a size');
}

const lz4Magic = 0x184d2204;
const lz4Uncompressed = 0x8000_0000;
/** LZ4 spends a byte on 255 bytes of a match at best. */
const lz4MaxRatio = 255;

/**
 * The most that an LZ4 frame can decompress to, from the sizes of its blocks. The native decoder
 * takes no limit and allocates what the frame asks for.
 */
function largestLz4Size(frame: Buffer): number {
  let total = 0;
  for (let at = 0; at < frame.length;) {
    if (frame.readUInt32LE(at) !== lz4Magic) {
      throw new RangeError('Not an LZ4 frame');
    }
    const flags = frame.readUInt8(at + 4);
    const blockSize = 1 << (8 + 2 * ((frame.readUInt8(at + 5) >> 4) & 7));
    at += 7 + (flags & 0x08 ? 8 : 0) + (flags & 0x01 ? 4 : 0);
    for (;;) {
      const field = frame.readUInt32LE(at);
      at += 4;
      if (field === 0) {
        break;
      }
      const size = field >= lz4Uncompressed ? field - lz4Uncompressed : field;
      total += field >= lz4Uncompressed ? size : Math.min(blockSize, size * lz4MaxRatio);
      at += size + (flags & 0x10 ? 4 : 0);
    }
    at += flags & 0x04 ? 4 : 0;
  }
  return total;
}
