import { mulberry32 } from './random.ts';

/** One record as a producer sends it, and what is to become of it. */
export interface SourceRecord {
  readonly partition: number;
  readonly key: Buffer | null;
  readonly value: Buffer | null;
  readonly headers: Readonly<Record<string, string>>;
  /** Kafka's timestamp, in milliseconds. */
  readonly timestamp: number;
  /** Why it must become a dead letter; null: it is as it should be. */
  readonly dead: string | null;
}

/** Of the first record. Fixed: what is generated depends on the seed alone. */
const begin = Date.parse('2025-03-01T06:00:00Z');
const minute = 60_000;

/** The source's `max_record_bytes`. */
export const maxRecordBytes = 16_384;

const regions = ['north', 'south', 'east', 'Ñuble', '北京', 'a "quoted", region', null];
const kinds = ['order', 'order', 'order', 'refund', 'test'];
const labels = [
  'plain',
  'n1',
  'n42',
  'n-7',
  '',
  ' padded ',
  'comma, "quote" and \\ backslash',
  'two\nlines\r\nand a tab\t.',
  'NULL',
  '\\N',
  '\\.',
  "it's",
  '💶 emoji',
  'e\u0301 combined',
  '\u2028\u2029\uFEFF',
  '\u0001 control',
  '__proto__',
  '{"json": true}',
  'Z',
  'z',
  'ä',
  '\uFFFD',
  null,
];

/**
 * Makes records of `events.avsc` that look like a busy day, from a seed: mostly in order, some late
 * by seconds, minutes or hours, some ahead, with nulls, repeated keys, awkward texts and numbers at
 * their limits, and about one in a hundred malformed in one of many ways.
 */
export class RecordGenerator {
  #partitions: number;
  readonly #random: () => number;
  /** Milliseconds of event time between two records. */
  readonly #stride: number;
  #made = 0;
  #latest = begin;

  constructor(seed: number, partitions: number, stride = 20) {
    this.#partitions = partitions;
    this.#random = mulberry32(seed);
    this.#stride = stride;
  }

  /** From now on there are more partitions. */
  grow(partitions: number): void {
    this.#partitions = partitions;
  }

  take(count: number): SourceRecord[] {
    return Array.from({ length: count }, () => this.#next());
  }

  /** For each partition a record so much later than all others that their windows become final. */
  closing(): SourceRecord[] {
    return Array.from({ length: this.#partitions }, (_, partition) =>
      this.#record(partition, this.#fields(this.#latest + 6 * 60 * minute), this.#latest),
    );
  }

  /** A sound record with a clock far ahead: it counts, and its time must not be taken at its word. */
  farFuture(partition: number): SourceRecord {
    return this.#record(partition, this.#fields(Date.parse('2099-12-31T23:59:59Z')), this.#latest);
  }

  #next(): SourceRecord {
    const now = begin + this.#made++ * this.#stride;
    // A third of the load on one partition: they don't progress alike.
    const partition = this.#chance(0.15) ? 0 : this.#below(this.#partitions);
    const time = this.#eventTime(now);
    this.#latest = Math.max(this.#latest, time);
    const fields = this.#fields(time);
    const record = this.#record(partition, fields, now + this.#below(500));
    return this.#chance(0.01) ? this.#spoil(record, fields) : record;
  }

  #eventTime(now: number): number {
    const dice = this.#random();
    if (dice < 0.01) {
      return now - this.#below(4 * 60) * minute - 2 * minute;
    }
    if (dice < 0.03) {
      return now - this.#below(5 * minute);
    }
    if (dice < 0.0301) {
      return now - 3 * 24 * 60 * minute;
    }
    if (dice < 0.035) {
      return now + this.#below(minute);
    }
    // Whole 100 ms, so that rows of one key often have the same time.
    return Math.floor((now - this.#below(3000)) / 100) * 100;
  }

  /** Each field's JSON text. */
  #fields(time: number): Map<string, string> {
    const cents = this.#below(2_000_000) - 400_000;
    const amount = (cents / 100).toFixed(2);
    const fields = new Map<string, string>();
    const set = (name: string, value: string): void => void fields.set(name, value);
    const maybe = (name: string, chance: number, value: () => string): void => {
      if (this.#chance(chance)) {
        set(name, value());
      } else if (this.#chance(0.5)) {
        set(name, 'null');
      }
    };
    set('id', String(this.#made * 1000 + this.#below(1000)));
    maybe('customer', 0.97, () => JSON.stringify(`c${this.#below(800)}`));
    maybe('region', 0.99, () => JSON.stringify(this.#of(regions)));
    set('kind', JSON.stringify(this.#of(kinds)));
    maybe('amount', 0.96, () => (this.#chance(0.5) ? amount : JSON.stringify(amount)));
    maybe('fee', 0.97, () => this.#of(['0', '-0', '0.01', '"12.50"', '1.5', '3']));
    maybe('precise', 0.9, () => JSON.stringify(this.#preciseDecimal()));
    maybe('quantity', 0.95, () =>
      String(this.#of([1, 2, 3, -1, 0, 2_147_483_647, -2_147_483_648])),
    );
    maybe('big', 0.7, () =>
      this.#of([
        '9007199254740993',
        '-9007199254740993',
        '9223372036854775807',
        '-9223372036854775808',
        '-0',
        '17',
      ]),
    );
    maybe('ratio', 0.9, () =>
      this.#of([
        String(this.#random()),
        String(-this.#random() * 1e9),
        '-0.0',
        '0',
        '1e-300',
        '1.7976931348623157e308',
        '0.1',
        '5e-324',
        '123456789',
      ]),
    );
    maybe('flag', 0.9, () => String(this.#chance(0.5)));
    maybe('label', 0.98, () => JSON.stringify(this.#label()));
    maybe('day', 0.9, () => this.#of(['"2024-02-29"', '"0001-01-01"', '"9999-12-31"', '0', '-1']));
    maybe('at', 0.9, () =>
      this.#chance(0.5)
        ? String(BigInt(time) * 1000n + BigInt(this.#below(1000)))
        : JSON.stringify(
            new Date(time).toISOString().replace('Z', this.#of(['123Z', '999+00:00', '001Z'])),
          ),
    );
    maybe('device', 0.8, () => JSON.stringify(this.#uuid()));
    if (this.#chance(0.5)) {
      set('score', String(this.#below(100)));
    }
    set(
      'event_time',
      this.#chance(0.8) ? String(time) : JSON.stringify(new Date(time).toISOString()),
    );
    if (this.#chance(0.05)) {
      set('unknown', '{"nested": [1, {"id": "not this one"}]}');
    }
    return fields;
  }

  #record(partition: number, fields: ReadonlyMap<string, string>, timestamp: number): SourceRecord {
    const headers: Record<string, string> = {};
    if (this.#chance(0.08)) {
      headers['bulk'] = this.#chance(0.9) ? 'true' : 'false';
    }
    if (this.#chance(0.02)) {
      headers['live'] = 'true';
    }
    return {
      partition,
      key: this.#of([null, Buffer.from(`k${this.#below(100)}`), ...markerLookAlikes]),
      value: this.#print(fields),
      headers,
      timestamp,
      dead: null,
    };
  }

  /** JSON as different producers write it. */
  #print(fields: ReadonlyMap<string, string>): Buffer {
    const members = [...fields].map(([name, value]) => [JSON.stringify(name), value] as const);
    if (this.#chance(0.02)) {
      members.reverse();
    }
    const dice = this.#random();
    const text =
      dice < 0.02
        ? `{\r\n${members.map(([name, value]) => `\t${name} : ${value}`).join(',\r\n')}\r\n}\n`
        : dice < 0.04
          ? `{\n  ${members.map(([name, value]) => `${name}: ${value}`).join(',\n  ')}\n}`
          : `{${members.map(([name, value]) => `${name}:${value}`).join(',')}}`;
    return Buffer.from(this.#chance(0.01) ? `\uFEFF${text}` : text);
  }

  #spoil(record: SourceRecord, fields: Map<string, string>): SourceRecord {
    const made = (value: Buffer | string | null, dead: string): SourceRecord => ({
      ...record,
      value: typeof value === 'string' ? Buffer.from(value) : value,
      dead,
    });
    const withField = (name: string, value: string, dead: string): SourceRecord =>
      made(this.#print(new Map([...fields, [name, value]])), dead);
    const without = (name: string): SourceRecord =>
      made(this.#print(new Map([...fields].filter(([field]) => field !== name))), 'missing');
    const text = `{${[...fields].map(([name, value]) => `${JSON.stringify(name)}:${value}`).join(',')}}`;
    return this.#of([
      () => made(text.slice(0, 1 + this.#below(text.length - 2)), 'malformed'),
      () => made(`${text} {}`, 'malformed'),
      () => made(`${text}\n${text}`, 'malformed'),
      () => made('', 'malformed'),
      () => made('\uFEFF', 'malformed'),
      () => made(text.replaceAll('"', "'"), 'malformed'),
      () => made('[1, 2]', 'not-an-object'),
      () => made('"text"', 'not-an-object'),
      () => made('42', 'not-an-object'),
      () => made('null', 'not-an-object'),
      () => made(null, 'tombstone'),
      () => made(Buffer.concat([Buffer.from(text), Buffer.from([0xff])]), 'not-utf8'),
      () => made(Buffer.from([0x7b, 0x22, 0xc3, 0x28, 0x22, 0x3a, 0x31, 0x7d]), 'not-utf8'),
      () => withField('label', `"${'x'.repeat(maxRecordBytes)}"`, 'too-large'),
      () => withField('label', '"a\\u0000b"', 'nul'),
      () => withField('label', '"\\ud83d"', 'malformed'),
      () => withField('label', '12', 'wrong-type'),
      () => withField('kind', '"parcel"', 'enum'),
      () => withField('amount', 'true', 'wrong-type'),
      () => withField('amount', '"12.345"', 'inexact'),
      () => withField('amount', '12.345', 'inexact'),
      () => withField('amount', '"12345678901.00"', 'out-of-range'),
      () => withField('precise', '0.12345678901', 'inexact'),
      () => withField('quantity', '"12"', 'wrong-type'),
      () => withField('quantity', '1.5', 'wrong-type'),
      () => withField('quantity', '2147483648', 'out-of-range'),
      () => withField('big', '9223372036854775808', 'out-of-range'),
      () => withField('ratio', '"0.5"', 'wrong-type'),
      () => withField('flag', '1', 'wrong-type'),
      () => withField('day', '"2024-02-30"', 'wrong-type'),
      () => withField('device', '"not-a-uuid"', 'wrong-type'),
      () => withField('event_time', '"yesterday"', 'wrong-type'),
      () => withField('event_time', '99999999999999999', 'out-of-range'),
      () => withField('event_time', 'null', 'missing'),
      () => withField('id', 'null', 'missing'),
      () => without('id'),
      () => without('kind'),
      () => without('event_time'),
    ])();
  }

  /** Up to 28 digits, ten of them behind the point. */
  #preciseDecimal(): string {
    const digits = (count: number): string =>
      Array.from({ length: count }, () => this.#below(10)).join('');
    const whole = `${this.#below(9) + 1}${digits(this.#below(18))}`;
    const decimals = digits(this.#below(11));
    return `${this.#chance(0.5) ? '-' : ''}${whole}${decimals && `.${decimals}`}`;
  }

  #label(): string | null {
    // An expression of table numbered fails on it.
    return this.#chance(0.0005) ? 'none' : this.#of(labels);
  }

  #uuid(): string {
    const hex = (count: number): string =>
      Array.from({ length: count }, () => this.#below(16).toString(16)).join('');
    return [hex(8), hex(4), hex(4), hex(4), hex(12)].join('-');
  }

  #below(limit: number): number {
    return Math.floor(this.#random() * limit);
  }

  #chance(probability: number): boolean {
    return this.#random() < probability;
  }

  #of<T>(choices: readonly T[]): T {
    return choices[this.#below(choices.length)] as T;
  }
}

/** Keys that a careless client takes for the marker of a transaction's end. */
const markerLookAlikes = [Buffer.from([0, 0, 0, 0]), Buffer.from('00000000'), Buffer.alloc(0)];
