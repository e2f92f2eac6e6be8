import { once } from 'node:events';
import { connect } from 'node:net';
import { gzipSync } from 'node:zlib';

/** A record as Kafka's protocol allows it, which is more than any client's API does. */
export interface RawRecord {
  readonly key: Buffer | null;
  readonly value: Buffer | null;
  /** In their order; names need not be UTF-8, nor different ones, and a value may be null. */
  readonly headers: readonly (readonly [name: Buffer, value: Buffer | null])[];
  /** Milliseconds. */
  readonly timestamp: bigint;
}

const produceKey = 0;

/**
 * Writes one record batch to a partition, by one request of Kafka's protocol (Produce, version 3).
 * kafkajs can't send a null header, nor one whose name isn't text.
 *
 * @returns the offset of the first record
 * @throws Error when the broker refuses the batch
 */
export async function produceRaw(
  broker: string,
  topic: string,
  partition: number,
  records: readonly RawRecord[],
  codec: 'none' | 'gzip',
): Promise<bigint> {
  const batch = encodeBatch(records, codec);
  const name = Buffer.from(topic);
  const head = Buffer.alloc(4 + 10 + 2 + 2 + 4 + 4 + 2 + name.length + 4 + 4 + 4);
  head.writeInt32BE(head.length - 4 + batch.length, 0);
  head.writeInt16BE(produceKey, 4);
  head.writeInt16BE(3, 6);
  head.writeInt32BE(1, 8);
  // No name of the client, no transaction.
  head.writeInt16BE(-1, 12);
  head.writeInt16BE(-1, 14);
  // Acknowledged by all replicas, within 30 seconds.
  head.writeInt16BE(-1, 16);
  head.writeInt32BE(30_000, 18);
  head.writeInt32BE(1, 22);
  head.writeInt16BE(name.length, 26);
  let at = 28 + name.copy(head, 28);
  at = head.writeInt32BE(1, at);
  at = head.writeInt32BE(partition, at);
  head.writeInt32BE(batch.length, at);
  const answer = await ask(broker, Buffer.concat([head, batch]));
  // Size, correlation id, number of topics, name, number of partitions, partition.
  const read = 4 + 4 + 4 + 2 + name.length + 4 + 4;
  const error = answer.readInt16BE(read);
  if (error !== 0) {
    throw new Error(`The broker refuses a batch of ${batch.length} bytes with error ${error}.`);
  }
  return answer.readBigInt64BE(read + 2);
}

function encodeBatch(records: readonly RawRecord[], codec: 'none' | 'gzip'): Buffer {
  const base = records[0]?.timestamp ?? 0n;
  const plain = Buffer.concat(
    records.map((record, i) => {
      const body = Buffer.concat([
        Buffer.from([0]),
        varint(record.timestamp - base),
        varint(BigInt(i)),
        sized(record.key),
        sized(record.value),
        varint(BigInt(record.headers.length)),
        ...record.headers.flatMap(([name, value]) => [sized(name), sized(value)]),
      ]);
      return Buffer.concat([varint(BigInt(body.length)), body]);
    }),
  );
  const payload = codec === 'gzip' ? gzipSync(plain, { level: 1 }) : plain;
  const head = Buffer.alloc(61);
  head.writeInt32BE(61 - 12 + payload.length, 8);
  head.writeInt32BE(-1, 12);
  head.writeInt8(2, 16);
  head.writeInt16BE(codec === 'gzip' ? 1 : 0, 21);
  head.writeInt32BE(records.length - 1, 23);
  head.writeBigInt64BE(base, 27);
  const latest = records.reduce((max, { timestamp }) => (timestamp > max ? timestamp : max), base);
  head.writeBigInt64BE(latest, 35);
  head.writeBigInt64BE(-1n, 43);
  head.writeInt16BE(-1, 51);
  head.writeInt32BE(-1, 53);
  head.writeInt32BE(records.length, 57);
  const batch = Buffer.concat([head, payload]);
  batch.writeUInt32BE(crc32c(batch.subarray(21)), 17);
  return batch;
}

function sized(bytes: Buffer | null): Buffer {
  return bytes === null ? varint(-1n) : Buffer.concat([varint(BigInt(bytes.length)), bytes]);
}

/** Zigzag. */
function varint(value: bigint): Buffer {
  let rest = BigInt.asUintN(64, (value << 1n) ^ (value >> 63n));
  const bytes: number[] = [];
  while (rest >= 0x80n) {
    bytes.push(Number(rest & 0x7fn) | 0x80);
    rest >>= 7n;
  }
  return Buffer.from([...bytes, Number(rest)]);
}

const table = Uint32Array.from({ length: 256 }, (_, byte) => {
  let crc = byte;
  for (let bit = 0; bit < 8; bit++) {
    crc = crc & 1 ? (crc >>> 1) ^ 0x82f63b78 : crc >>> 1;
  }
  return crc;
});

function crc32c(bytes: Buffer): number {
  let crc = 0xffffffff;
  for (const byte of bytes) {
    crc = (crc >>> 8) ^ (table[(crc ^ byte) & 0xff] ?? 0);
  }
  return (crc ^ 0xffffffff) >>> 0;
}

async function ask(broker: string, request: Buffer): Promise<Buffer> {
  const [host = '', port = ''] = broker.split(/:(?=\d+$)/);
  const socket = connect(Number(port), host);
  try {
    socket.write(request);
    let answer = Buffer.alloc(0);
    while (answer.length < 4 || answer.length < 4 + answer.readInt32BE(0)) {
      const [chunk] = (await once(socket, 'data')) as [Buffer];
      answer = Buffer.concat([answer, chunk]);
    }
    return answer;
  } finally {
    socket.destroy();
  }
}
