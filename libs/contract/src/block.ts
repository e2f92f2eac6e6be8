import { type FieldSchema, recordType } from './avro.ts';
import { ContractError } from './errors.ts';
import { frame, unframe } from './frame.ts';

/** Records with adjacent offsets. */
export interface Run {
  readonly start: bigint;
  readonly count: number;
}

/**
 * A record whose line breaks or byte order mark were taken out of the payload, so that its own
 * bytes can be restored for a dead letter.
 */
export interface Altered {
  /** Zero-based among the block's records. */
  readonly record: number;
  readonly byteOrderMark: boolean;
  /** Where carriage returns stand for line feeds, in bytes from the record's start in the payload. */
  readonly lineFeeds: readonly number[];
}

/** How ingest split the records of a range; the same in both branches' blocks of that range. */
export interface SplitCounts {
  readonly stream: bigint;
  readonly batch: bigint;
  readonly dead: bigint;
  /** Records per rule of the source, in its order; the last one counts those no rule matched. */
  readonly rules: readonly bigint[];
}

/** What a block and a partial say of the records that they account for. */
export interface Coverage {
  readonly source: string;
  readonly partition: number;
  /** First source offset that ingest ever took of this partition. */
  readonly origin: bigint;
  readonly from: bigint;
  readonly to: bigint;
  /**
   * When ingest began with the partition, in milliseconds since 1970: another one says that the offsets
   * may name other records than before. 0: not said.
   */
  readonly epoch: bigint;
  /** Microseconds since 1970, behind the last record of the range; null while none was seen. */
  readonly watermark: bigint | null;
  /** Hash of the source's definition. */
  readonly definition: string;
  readonly split: SplitCounts;
}

/** The records of a range that go to one branch; there may be none. */
export interface Block extends Coverage {
  /** Milliseconds since 1970 at which the newest record of the range was produced; 0: no record. */
  readonly producedAt: bigint;
  readonly runs: readonly Run[];
  readonly altered: readonly Altered[];
  /** The records' values, each with a line feed behind it. */
  readonly payload: Buffer;
}

/** Avro fields of a coverage, shared by the headers of blocks and partials. */
export const coverageFields: { name: string; type: FieldSchema }[] = [
  { name: 'source', type: 'string' },
  { name: 'partition', type: 'int' },
  { name: 'origin', type: 'long' },
  { name: 'from', type: 'long' },
  { name: 'to', type: 'long' },
  { name: 'epoch', type: 'long' },
  { name: 'watermark', type: ['null', 'long'] },
  { name: 'definition', type: 'string' },
  {
    name: 'split',
    type: {
      type: 'record',
      name: 'SplitCounts',
      fields: [
        { name: 'stream', type: 'long' },
        { name: 'batch', type: 'long' },
        { name: 'dead', type: 'long' },
        { name: 'rules', type: { type: 'array', items: 'long' } },
      ],
    },
  },
];

type Header = Omit<Block, 'payload'>;

const headerType = recordType<Header>({
  type: 'record',
  name: 'Block',
  fields: [
    ...coverageFields,
    { name: 'producedAt', type: 'long' },
    {
      name: 'runs',
      type: {
        type: 'array',
        items: {
          type: 'record',
          name: 'Run',
          fields: [
            { name: 'start', type: 'long' },
            { name: 'count', type: 'int' },
          ],
        },
      },
    },
    {
      name: 'altered',
      type: {
        type: 'array',
        items: {
          type: 'record',
          name: 'Altered',
          fields: [
            { name: 'record', type: 'int' },
            { name: 'byteOrderMark', type: 'boolean' },
            { name: 'lineFeeds', type: { type: 'array', items: 'int' } },
          ],
        },
      },
    },
  ],
});

export function encodeBlock(block: Block): Buffer {
  return frame('K', headerType.encode(block), [block.payload]);
}

/**
 * The block in a Kafka message; its payload is a view of the message.
 * @throws ContractError
 */
export function decodeBlock(message: Buffer): Block {
  const { header, payload } = unframe('K', message);
  const decoded = decodeHeader(() => headerType.decode(header), 'block');
  return { ...decoded, payload };
}

/** Turns what avsc throws on a header that passed its checksum into an error that says so. */
export function decodeHeader<T>(decode: () => T, what: string): T {
  try {
    return decode();
  } catch (cause) {
    throw new ContractError('DAMAGED', `The header of a ${what} can't be decoded.`, { cause });
  }
}

export function countRecords(runs: readonly Run[]): number {
  return runs.reduce((sum, { count }) => sum + count, 0);
}
