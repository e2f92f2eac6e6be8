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

/** What avsc reads from. */
interface Tap {
  readonly buf: Buffer;
  pos: number;
  readLong(): number;
  skipLong(): void;
}

/**
 * avsc believes what a list says of its length, and looks only at the end whether it has read beyond the
 * message: five bytes that promise two billion items end the process, and the next one. An item of ours
 * takes a byte at least.
 */
class BoundedArray extends avro.types.ArrayType {
  _read(tap: Tap): unknown[] {
    const items = this.itemsType as unknown as { _read(tap: Tap): unknown };
    const values: unknown[] = [];
    for (let count = tap.readLong(); count !== 0; count = tap.readLong()) {
      if (count < 0) {
        tap.skipLong();
      }
      const next = Math.abs(count);
      if (!(next <= tap.buf.length - tap.pos)) {
        throw new RangeError(`A list of ${next} items is longer than its message.`);
      }
      for (let i = 0; i < next && tap.pos <= tap.buf.length; i++) {
        values.push(items._read(tap));
      }
    }
    return values;
  }
}

function boundArrays(schema: avro.Schema, options: avro.ForSchemaOptions): avro.Type | undefined {
  return typeof schema === 'object' && 'type' in schema && schema.type === 'array'
    ? new BoundedArray(schema, options)
    : undefined;
}

/** What a field's type may be in a schema of ours. */
export type FieldSchema = avro.Schema;

/** The Avro type of a record that TypeScript knows as `T`; its longs are bigints. */
export function recordType<T>(schema: avro.Schema): RecordType<T> {
  return new RecordType<T>(
    avro.Type.forSchema(schema, {
      registry: { long },
      wrapUnions: 'never',
      typeHook: boundArrays,
    }),
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
