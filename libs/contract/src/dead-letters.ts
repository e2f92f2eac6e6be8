import { recordType } from './avro.ts';
import { decodeHeader } from './block.ts';
import { frame, unframe } from './frame.ts';

/** A record that counts in no table, kept as it came. */
export interface DeadLetter {
  readonly offset: bigint;
  /** Milliseconds since 1970, as the producer or broker stamped it; null where it isn't known. */
  readonly timestamp: bigint | null;
  /** The table whose expression failed on it; null: it was refused by ingest, for all tables. */
  readonly table: string | null;
  /** For machines: `malformed`, `missing`, … */
  readonly code: string;
  /** For people: which field, what was expected. */
  readonly reason: string;
  readonly key: Buffer | null;
  readonly value: Buffer | null;
  readonly headers: readonly { readonly name: string; readonly value: Buffer | null }[];
}

/** Dead letters of one source partition, some in one Kafka message. */
export interface DeadLetters {
  readonly source: string;
  readonly partition: number;
  readonly letters: readonly DeadLetter[];
}

const type = recordType<DeadLetters>({
  type: 'record',
  name: 'DeadLetters',
  fields: [
    { name: 'source', type: 'string' },
    { name: 'partition', type: 'int' },
    {
      name: 'letters',
      type: {
        type: 'array',
        items: {
          type: 'record',
          name: 'DeadLetter',
          fields: [
            { name: 'offset', type: 'long' },
            { name: 'timestamp', type: ['null', 'long'] },
            { name: 'table', type: ['null', 'string'] },
            { name: 'code', type: 'string' },
            { name: 'reason', type: 'string' },
            { name: 'key', type: ['null', 'bytes'] },
            { name: 'value', type: ['null', 'bytes'] },
            {
              name: 'headers',
              type: {
                type: 'array',
                items: {
                  type: 'record',
                  name: 'Header',
                  fields: [
                    { name: 'name', type: 'string' },
                    { name: 'value', type: ['null', 'bytes'] },
                  ],
                },
              },
            },
          ],
        },
      },
    },
  ],
});

/** Letters are gathered up to about this size; a single one may be as large as its record. */
const maxMessageBytes = 512 * 1024;
/** What a letter takes beside its texts: a backlog of empty records must not become one message. */
const letterBytes = 64;

/** The Kafka messages that hold these letters; none for no letter. */
export function encodeDeadLetters({ source, partition, letters }: DeadLetters): Buffer[] {
  const messages: Buffer[] = [];
  let gathered: DeadLetter[] = [];
  let bytes = 0;
  const flush = (): void => {
    if (gathered.length > 0) {
      messages.push(frame('D', type.encode({ source, partition, letters: gathered }), []));
      gathered = [];
      bytes = 0;
    }
  };
  for (const letter of letters) {
    const size =
      letterBytes +
      letter.reason.length +
      (letter.value?.length ?? 0) +
      (letter.key?.length ?? 0) +
      letter.headers.reduce((sum, { name, value }) => sum + name.length + (value?.length ?? 0), 0);
    if (bytes + size > maxMessageBytes) {
      flush();
    }
    gathered.push(letter);
    bytes += size;
  }
  flush();
  return messages;
}

/** @throws ContractError */
export function decodeDeadLetters(message: Buffer): DeadLetters {
  const { header } = unframe('D', message);
  return decodeHeader(() => type.decode(header), 'batch of dead letters');
}
