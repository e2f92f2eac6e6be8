import { type FieldSchema, recordType } from './avro.ts';
import { coverageFields, type Coverage, decodeHeader } from './block.ts';
import { ContractError } from './errors.ts';
import { frame, unframe } from './frame.ts';

export type Branch = 'stream' | 'batch';

/** What a processor made of one table's share of a run of blocks. */
export interface TablePart {
  readonly name: string;
  /** Hash of the table's definition. */
  readonly hash: string;
  /** read = filtered + aggregated + dead */
  readonly read: bigint;
  readonly filtered: bigint;
  readonly aggregated: bigint;
  readonly dead: bigint;
  readonly rows: bigint;
  /** The rows as text for `COPY … WITH (FORMAT csv)`. */
  readonly text: Buffer;
}

/** The batch-processor's record of a run, as far as it has come; fusion adds up what it gets. */
export interface RunShare {
  /** Unique per run. */
  readonly id: string;
  readonly instance: string;
  /** Why it was started: `every`, `cron`, `backlog` or `fresh_within`. */
  readonly trigger: string;
  /** Milliseconds since 1970. */
  readonly startedAt: bigint;
  /** Milliseconds since 1970; null while the run goes on. */
  readonly finishedAt: bigint | null;
  readonly bytes: bigint;
  readonly records: bigint;
  readonly rows: bigint;
  readonly load: number;
  readonly preprocess: number;
  readonly process: number;
  readonly store: number;
}

export interface Partial extends Coverage {
  readonly branch: Branch;
  /** Milliseconds since 1970 at which the newest record of the range was produced; 0: no record. */
  readonly producedAt: bigint;
  readonly tables: readonly TablePart[];
  readonly run: RunShare | null;
}

/** Counts, and the seconds of each stage. */
const measures: { name: string; type: FieldSchema }[] = [
  ...['bytes', 'records', 'rows'].map((name) => ({ name, type: 'long' as const })),
  ...['load', 'preprocess', 'process', 'store'].map((name) => ({ name, type: 'double' as const })),
];
const branchSchema: FieldSchema = { type: 'enum', name: 'Branch', symbols: ['stream', 'batch'] };

const partialType = recordType<Partial>({
  type: 'record',
  name: 'Partial',
  fields: [
    ...coverageFields,
    { name: 'branch', type: branchSchema },
    { name: 'producedAt', type: 'long' },
    {
      name: 'tables',
      type: {
        type: 'array',
        items: {
          type: 'record',
          name: 'TablePart',
          fields: [
            { name: 'name', type: 'string' },
            { name: 'hash', type: 'string' },
            { name: 'read', type: 'long' },
            { name: 'filtered', type: 'long' },
            { name: 'aggregated', type: 'long' },
            { name: 'dead', type: 'long' },
            { name: 'rows', type: 'long' },
            { name: 'text', type: 'bytes' },
          ],
        },
      },
    },
    {
      name: 'run',
      type: [
        'null',
        {
          type: 'record',
          name: 'RunShare',
          fields: [
            { name: 'id', type: 'string' },
            { name: 'instance', type: 'string' },
            { name: 'trigger', type: 'string' },
            { name: 'startedAt', type: 'long' },
            { name: 'finishedAt', type: ['null', 'long'] },
            ...measures,
          ],
        },
      ],
    },
  ],
});

/** One Kafka message of a partial: which partial, which part of how many, and a piece of its bytes. */
interface PartHeader {
  readonly branch: Branch;
  readonly from: bigint;
  readonly to: bigint;
  readonly part: number;
  readonly parts: number;
}

const partType = recordType<PartHeader>({
  type: 'record',
  name: 'Part',
  fields: [
    { name: 'branch', type: branchSchema },
    { name: 'from', type: 'long' },
    { name: 'to', type: 'long' },
    { name: 'part', type: 'int' },
    { name: 'parts', type: 'int' },
  ],
});

/** Below the broker's default limit of 1 MiB a message, with room for headers and batch overhead. */
const maxPartBytes = 1_000_000;

/** The Kafka messages of a partial, to be written in this order and in one transaction. */
export function encodePartial(partial: Partial): Buffer[] {
  const bytes = partialType.encode(partial);
  const { branch, from, to } = partial;
  const parts = Math.max(1, Math.ceil(bytes.length / maxPartBytes));
  return Array.from({ length: parts }, (_, part) =>
    frame('P', partType.encode({ branch, from, to, part, parts }), [
      bytes.subarray(part * maxPartBytes, (part + 1) * maxPartBytes),
    ]),
  );
}

/**
 * Puts the partials of one results partition together again. The branches' parts may interleave;
 * one partial's stand in order.
 */
export class PartialAssembler {
  readonly #open = new Map<Branch, { header: PartHeader; pieces: Buffer[]; at: bigint }>();
  /** Branches of which a first part was seen. */
  readonly #begun = new Set<Branch>();

  /**
   * @param message one Kafka message of the results topic
   * @param at its Kafka offset
   * @returns the partial when this was its last part, else null
   * @throws ContractError `INCOMPLETE` when a part is missing or out of turn
   */
  add(message: Buffer, at: bigint): Partial | null {
    const { header: headerBytes, payload } = unframe('P', message);
    const header = decodeHeader(() => partType.decode(headerBytes), 'partial');
    const open = this.#open.get(header.branch);
    if (header.part > 0 && !this.#begun.has(header.branch)) {
      // Reading began in the middle of this partial, since the other branch's had to be read again:
      // this one was complete and is applied. If it wasn't, the next one shows a gap.
      return null;
    }
    this.#begun.add(header.branch);
    if (header.part === 0) {
      // A partial that never got all of its parts can't be in front of this one: parts are written
      // in one transaction.
      if (open !== undefined) {
        throw this.#incomplete(open.header, open.pieces.length);
      }
    } else if (
      open === undefined ||
      open.pieces.length !== header.part ||
      open.header.from !== header.from ||
      open.header.to !== header.to
    ) {
      throw this.#incomplete(header, open?.pieces.length ?? 0);
    }
    const pieces = open === undefined ? [payload] : [...open.pieces, payload];
    if (pieces.length < header.parts) {
      this.#open.set(header.branch, { header, pieces, at: open?.at ?? at });
      return null;
    }
    this.#open.delete(header.branch);
    const bytes = pieces.length === 1 ? payload : Buffer.concat(pieces);
    return decodeHeader(() => partialType.decode(bytes), 'partial');
  }

  /** Kafka offset of the first part of a partial that isn't complete yet: where to read again from. */
  get openSince(): bigint | null {
    let since: bigint | null = null;
    for (const { at } of this.#open.values()) {
      since = since === null || at < since ? at : since;
    }
    return since;
  }

  #incomplete({ branch, from, to, parts }: PartHeader, got: number): ContractError {
    return new ContractError(
      'INCOMPLETE',
      `Of the ${branch} partial [${from}, ${to}) only ${got} of ${parts} parts are there.`,
    );
  }
}
