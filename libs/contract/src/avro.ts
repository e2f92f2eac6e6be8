import avro from 'avsc';

/** Avro `long` as bigint: offsets and microseconds keep all of their 64 bits. */
const long = avro.types.LongType.__with({
  fromBuffer: (buffer: Buffer) => buffer.readBigInt64LE(),
  toBuffer: (value: bigint) => {
    const buffer = Buffer.allocUnsafe(8);
    buffer.writeBigInt64LE(value);
    return buffer;
  },
  fromJSON: (value: number) => BigInt(value),
  toJSON: Number,
  isValid: (value: unknown) => typeof value === 'bigint' && BigInt.asIntN(64, value) === value,
  compare: (a: bigint, b: bigint) => (a < b ? -1 : Number(a > b)),
});

/** What a field's type may be in a schema of ours. */
export type FieldSchema = avro.Schema;

/** The Avro type of a record that TypeScript knows as `T`; its longs are bigints. */
export function recordType<T>(schema: avro.Schema): RecordType<T> {
  return new RecordType<T>(
    avro.Type.forSchema(schema, { registry: { long }, wrapUnions: 'never' }),
  );
}

export class RecordType<T> {
  readonly #type: avro.Type;

  constructor(type: avro.Type) {
    this.#type = type;
  }

  encode(value: T): Buffer {
    return this.#type.toBuffer(value);
  }

  /** @throws when the bytes aren't exactly one such record. */
  decode(bytes: Buffer): T {
    return this.#type.fromBuffer(bytes) as T;
  }
}
