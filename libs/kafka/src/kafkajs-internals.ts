import { createRequire } from 'node:module';
import type { Writable } from 'node:stream';

/**
 * Parts of kafkajs that our patch changes, or that encode what we decode. For tests only: nothing
 * that ships imports this.
 */
const require = createRequire(import.meta.url);
const internal = (path: string): unknown => require(`kafkajs/src/${path}`);

interface Encoded {
  buffer: Buffer;
}

export interface SampleRecord {
  readonly key?: Buffer | null;
  readonly value: Buffer | null;
  readonly timestamp?: number;
  readonly headers?: Record<string, Buffer>;
}

const encodeRecord = internal('protocol/recordBatch/record/v0') as (record: object) => Encoded;
const { RecordBatch } = internal('protocol/recordBatch/v0') as {
  RecordBatch: (batch: object) => Promise<Encoded>;
};

/** One uncompressed record batch that begins at offset 0. */
export async function encodeBatch(
  sample: readonly SampleRecord[],
  options: { transactional?: boolean; producerId?: number } = {},
): Promise<Buffer> {
  const base = sample[0]?.timestamp ?? 0;
  const encoded = await RecordBatch({
    ...options,
    firstTimestamp: base,
    lastOffsetDelta: sample.length - 1,
    records: sample.map((record, index) =>
      encodeRecord({
        key: record.key ?? null,
        value: record.value,
        headers: record.headers ?? {},
        timestampDelta: (record.timestamp ?? 0) - base,
        offsetDelta: index,
      }),
    ),
  });
  return Buffer.from(encoded.buffer);
}

/** kafkajs' encoder, as far as a test needs it. */
export interface RequestEncoder extends Encoded {
  readonly parts: readonly Buffer[];
  size(): number;
  writeTo(stream: Writable): void;
  writeInt8(value: number): this;
  writeBytes(value: Buffer | null): this;
  writeEncoder(value: RequestEncoder): this;
}

export const Encoder = internal('protocol/encoder') as new () => RequestEncoder;

export interface ProduceRequest {
  readonly transactionalId: string | null;
  readonly producerId: number;
  readonly producerEpoch: number;
  readonly acks: number;
  readonly timeout: number;
  readonly topicData: readonly {
    topic: string;
    partitions: readonly {
      partition: number;
      firstSequence: number;
      messages: readonly SampleRecord[];
    }[];
  }[];
}

const produce = internal('protocol/requests/produce/v7/request') as (
  request: ProduceRequest,
) => object;
const createRequest = internal('protocol/request') as (options: {
  correlationId: number;
  clientId: string;
  request: object;
}) => Promise<RequestEncoder>;

/** What a producer writes to its connection, uncompressed. */
export function encodeProduce(
  correlationId: number,
  clientId: string,
  request: ProduceRequest,
): Promise<RequestEncoder> {
  return createRequest({ correlationId, clientId, request: produce(request) });
}

/** A message as a fetch hands it to the read_committed filter. */
export interface FetchedMessage {
  readonly offset: string;
  readonly firstOffset: string;
  readonly key: Buffer | null;
  readonly value: Buffer;
  readonly isControlRecord: boolean;
  readonly batchContext: { producerId: string; inTransaction: boolean };
}

export interface AbortedTransaction {
  readonly producerId: string;
  readonly firstOffset: string;
}

export const filterAbortedMessages = internal('consumer/filterAbortedMessages') as (fetched: {
  messages: readonly FetchedMessage[];
  abortedTransactions: readonly AbortedTransaction[];
}) => FetchedMessage[];

export const groupMessagesPerPartition = internal('producer/groupMessagesPerPartition') as (send: {
  topic: string;
  partitionMetadata: readonly object[];
  messages: readonly object[];
  partitioner(of: { message: { partition: number } }): number;
}) => Record<number, object[]>;

const Decoder = internal('protocol/decoder') as new (bytes: Buffer) => object;
const decode = internal('protocol/requests/fetch/v4/decodeMessages') as (
  decoder: object,
) => Promise<FetchedMessage[]>;

/** What a fetch makes of the record set in its response. */
export function decodeMessages(recordSet: Buffer): Promise<FetchedMessage[]> {
  const size = Buffer.alloc(4);
  size.writeInt32BE(recordSet.length);
  return decode(new Decoder(Buffer.concat([size, recordSet])));
}

export const RequestQueue = internal('network/requestQueue') as new (options: object) => {
  throttleCheckTimeoutId: unknown;
  checkPendingRequests(): void;
  destroy(): void;
};
