import fc from 'fast-check';
import { expect, it } from 'vitest';
import { frame, type Kind, unframe } from './frame.ts';
import {
  type Block,
  ContractError,
  decodeBlock,
  decodeDeadLetters,
  encodeBlock,
  encodeDeadLetters,
  encodePartial,
  type Partial,
  PartialAssembler,
} from './index.ts';

/*
 * Messages with a right checksum, made by something that isn't ours or is broken: Avro that promises more
 * than there is. Each is an error that halts its partition; none may take the process with it.
 */

const coverage = {
  source: 'orders',
  partition: 3,
  origin: 0n,
  from: 10n,
  to: 20n,
  epoch: 0n,
  watermark: 5n,
  definition: 'hash',
  split: { stream: 5n, batch: 4n, dead: 1n, rules: [4n, 5n] },
};
const block: Block = {
  ...coverage,
  producedAt: 1n,
  runs: [{ start: 10n, count: 5 }],
  altered: [{ record: 1, byteOrderMark: true, lineFeeds: [1, 2] }],
  payload: Buffer.from('{}\n'),
};
const partial: Partial = {
  ...coverage,
  branch: 'stream',
  producedAt: 1n,
  tables: [
    {
      name: 't',
      hash: 'h',
      read: 1n,
      filtered: 0n,
      aggregated: 1n,
      dead: 0n,
      rows: 1n,
      text: Buffer.from('1\n'),
    },
  ],
  run: null,
};
const letters = {
  source: 'orders',
  partition: 3,
  letters: [
    {
      offset: 1n,
      timestamp: null,
      table: null,
      code: 'malformed',
      reason: 'it is',
      key: Buffer.from('k'),
      value: Buffer.from('v'),
      headers: [{ name: 'h', value: null }],
    },
  ],
};

interface Target {
  readonly what: string;
  /** The Avro of a sound message. */
  readonly sound: Buffer;
  readonly decode: (avro: Buffer) => unknown;
}

const framed = (kind: Kind, header: Buffer, payload: Buffer = Buffer.alloc(0)): Buffer =>
  frame(kind, header, [payload]);
const [partMessage] = encodePartial(partial);
const part = unframe('P', partMessage ?? Buffer.alloc(0));
const targets: readonly Target[] = [
  {
    what: 'a block',
    sound: unframe('K', encodeBlock(block)).header,
    decode: (avro) => decodeBlock(framed('K', avro)),
  },
  {
    what: 'a partial',
    sound: part.payload,
    decode: (avro) => new PartialAssembler().add(framed('P', part.header, avro), 0n),
  },
  {
    what: 'a part of a partial',
    sound: part.header,
    decode: (avro) => new PartialAssembler().add(framed('P', avro, part.payload), 0n),
  },
  {
    what: 'a batch of dead letters',
    sound: unframe('D', encodeDeadLetters(letters)[0] ?? Buffer.alloc(0)).header,
    decode: (avro) => decodeDeadLetters(framed('D', avro)),
  },
];

function varint(value: bigint): Buffer {
  let rest = BigInt.asUintN(64, (value << 1n) ^ (value >> 63n));
  const bytes: number[] = [];
  for (; rest >= 0x80n; rest >>= 7n) {
    bytes.push(Number(rest & 0x7fn) | 0x80);
  }
  return Buffer.from([...bytes, Number(rest)]);
}

const bombs = [
  ...[31n, 33n, 40n, 53n, 62n].flatMap((bits) => [varint(2n ** bits), varint(-(2n ** bits))]),
  varint(-(2n ** 63n)),
  Buffer.alloc(11, 0xff),
  Buffer.alloc(100_000, 0x80),
  Buffer.alloc(100_000, 0xff),
  Buffer.alloc(100_000, 1),
  Buffer.alloc(100_000, 2),
];

// The header of a part has numbers alone.
it.each(targets.filter(({ what }) => what !== 'a part of a partial'))(
  '$what that promises more than it has, anywhere, is an error and takes nothing with it',
  ({ sound, decode }) => {
    expect(() => decode(sound)).not.toThrow();
    for (let at = 0; at < sound.length; at++) {
      for (const bomb of bombs) {
        const avro = Buffer.concat([sound.subarray(0, at), bomb]);
        expect(() => decode(avro)).toThrow(ContractError);
      }
    }
  },
  60_000,
);

it.each(targets)(
  '$what that is spoiled anywhere is read or is an error',
  ({ sound, decode }) => {
    const edit = fc.record({
      at: fc.nat(sound.length),
      drop: fc.nat(4),
      insert: fc.uint8Array({ maxLength: 4 }),
    });
    fc.assert(
      fc.property(fc.array(edit, { minLength: 1, maxLength: 4 }), (edits) => {
        let avro = sound;
        for (const { at, drop, insert } of edits) {
          avro = Buffer.concat([avro.subarray(0, at), insert, avro.subarray(at + drop)]);
        }
        try {
          decode(avro);
        } catch (error) {
          expect(error).toBeInstanceOf(ContractError);
        }
      }),
      { numRuns: 2000 },
    );
  },
  60_000,
);
