import { fields, maxRecordBytes } from './expectation.ts';
import type { RawRecord } from './raw-producer.ts';
import { Dice } from '../../random.ts';

const begin = Date.parse('2025-03-01T06:00:00Z');
const mebibyte = 1024 * 1024;

/** JSON texts, or what pretends to be one, that may stand for any field's value. */
const awkwardValues: readonly string[] = [
  'null',
  'true',
  'false',
  'TRUE',
  'nul',
  'undefined',
  '',
  '0',
  '-0',
  '-0.0',
  '0.0',
  '00',
  '01',
  '+1',
  '.5',
  '5.',
  '1.0',
  '1.5',
  '1e3',
  '1E+3',
  '1e-3',
  '1.5e1',
  '1e',
  '--1',
  '0x10',
  '1_000',
  '2147483647',
  '2147483648',
  '-2147483648',
  '-2147483649',
  '9007199254740993',
  '-9007199254740993',
  '9007199254740992.5',
  '9223372036854775807',
  '9223372036854775808',
  '-9223372036854775808',
  '-9223372036854775809',
  '18446744073709551615',
  '18446744073709551616',
  '123456789012345678901234567890',
  '1e308',
  '1.7976931348623157e308',
  '1.7976931348623159e308',
  '1e309',
  '1e400',
  '-1e400',
  '1e-400',
  '3.4028235e38',
  '3.5e38',
  '1e-46',
  '5e-324',
  '0.1',
  '0.30000000000000004',
  '12345678901.5',
  '1234567890.12',
  '1234567890.123',
  '99999999999.99',
  '281524546444344.97',
  '123456.0123456789',
  '12345.0123456789',
  '1.0000000000000000',
  '0.00',
  '9'.repeat(400),
  `0.${'9'.repeat(400)}`,
  `1${'0'.repeat(400)}`,
  `0.${'0'.repeat(400)}1`,
  'NaN',
  'nan',
  '-NaN',
  'Infinity',
  '-Infinity',
  'inf',
  '[]',
  '{}',
  '[1]',
  '[1,]',
  '[,]',
  '{"a":1,}',
  '{"id":1}',
  '"',
  '""',
  '" "',
  '"12"',
  '"-12.34"',
  '"-0.00"',
  '"1e2"',
  '".5"',
  '"5."',
  '"+5"',
  '"00012.5000"',
  '"12.345"',
  '"１２"',
  '"NaN"',
  '"true"',
  '"null"',
  '"order"',
  '"ORDER"',
  '"\\u006frder"',
  '"refund "',
  '"\\u0000"',
  '"a\\u0000b"',
  '"\\\\u0000"',
  '"\\ud83d\\ude00"',
  '"\\ud83d"',
  '"\\ude00\\ud83d"',
  '"\\ud83d\\u0041"',
  '"\\uD800"',
  '"\\ufffe\\uffff\\ufeff"',
  '"\\x41"',
  '"\\u12"',
  '"\\u{41}"',
  '"a\tb"',
  '"a\nb"',
  '"a\rb"',
  '"\u007f\u0080\u009f"',
  '"\u2028\u2029"',
  '"\u202e\u200b\u{10ffff}"',
  '"e\u0301"',
  "'text'",
  '`text`',
  '"\\"\\\\\\/\\b\\f\\n\\r\\t"',
  '"\\\\."',
  '"NULL"',
  '"\\\\N"',
  '"a,b\\"c"',
  '"__proto__"',
  '"x"x',
  '"unclosed',
  '"2024-02-29"',
  '"2025-02-29"',
  '"0000-01-01"',
  '"0001-01-01"',
  '"9999-12-31"',
  '"10000-01-01"',
  '"-9999-01-01"',
  '"+275761-01-01"',
  '"275761-09-13T00:00:00Z"',
  '"-271821-04-20T00:00:00Z"',
  '"20240229"',
  '"2024-2-9"',
  '"2024-02-29 (BC)"',
  '"epoch"',
  '"infinity"',
  '"now"',
  '"today"',
  '"2025-03-01T06:00:00Z"',
  '"2025-03-01T06:00:00.123456789Z"',
  '"2025-03-01 06:00:00.5+02"',
  '"2025-03-01T06:00:00+05:30"',
  '"2025-03-01T06:00:00-0930"',
  '"2025-03-01T06:00:00"',
  '"2025-03-01T06:00Z"',
  '"2025-03-01T06Z"',
  '"2025-03-01T25:00:00Z"',
  '"2025-03-01T23:59:60Z"',
  '"2025-03-01T06:00:00 Europe/Berlin"',
  '"2025-03-01T06:00:00Z "',
  '" 2025-03-01T06:00:00Z"',
  '"2025-03-01T06:00:00ZZ"',
  '"0001-01-01T00:00:00+01:00"',
  '"9999-12-31T23:59:59.999999Z"',
  '"9999-12-31T23:59:59-01:00"',
  '"0001-01-01T00:00:00Z"',
  '-62135596800000',
  '-62135596800001',
  '253402300799999',
  '253402300800000',
  '-62135596800000000',
  '253402300799999999',
  '8640000000000001',
  '-719162',
  '-719163',
  '2932896',
  '2932897',
  '"f47ac10b-58cc-4372-a567-0e02b2c3d479"',
  '"F47AC10B-58CC-4372-A567-0E02B2C3D479"',
  '"f47ac10b58cc4372a5670e02b2c3d479"',
  '"{f47ac10b-58cc-4372-a567-0e02b2c3d479}"',
  '"g47ac10b-58cc-4372-a567-0e02b2c3d479"',
  '"00000000-0000-0000-0000-000000000000"',
];

const awkwardCharacters = '{}[]:,"\\0123456789-+.eEtfn \n\r\t\'/_TZ'.split('');

const timeValues: readonly string[] = [
  '"2025-03-01T06:00:00Z"',
  '"2025-03-01 06:00:00.5+02"',
  '"2025-03-01T06:00:00.123456+05:30"',
  '"2025-03-01T06:00:00-0930"',
  '"2025-12-31T23:59:59.999999999Z"',
  '"2025-03-01"',
];

/** Values of a record as a whole. */
function awkwardRecords(sound: string): (string | Buffer | null)[] {
  const inside = sound.slice(1, -1);
  return [
    null,
    '',
    ' ',
    '\n',
    '\0',
    '\uFEFF',
    `\uFEFF${sound}`,
    `\uFEFF\uFEFF${sound}`,
    `${sound}\0`,
    `\0${sound}`,
    `${sound}\n`,
    `\r\n\t ${sound} \r\n`,
    `\u00a0${sound}`,
    `${sound},`,
    `${sound}${sound}`,
    `${sound}\n${sound}`,
    `[${sound}]`,
    `"${sound.replaceAll('"', '\\"')}"`,
    `/* a comment */${sound}`,
    `${sound}// a comment`,
    `{${inside},}`,
    `{,${inside}}`,
    `{${inside},,}`,
    `{${inside}`,
    `${inside}}`,
    `{{${inside}}}`,
    `{"id":1,${inside}}`,
    `{"id":null,${inside}}`,
    `{"id":"x",${inside}}`,
    `{${inside},"id":"x"}`,
    `{${inside},"label":"first","label":"second"}`,
    `{${inside},"amount":1.25,"amount":281524546444344.97}`,
    `{"__proto__":{"id":1},${inside}}`,
    `{"__proto__":1,"constructor":2,"toString":3,"hasOwnProperty":4,${inside}}`,
    '{"__proto__":{"id":1,"kind":"order","event_time":1740808800000}}',
    `{"":1,${inside}}`,
    `{"\\u0069d":7,${inside}}`,
    `{"ID":"x","Id":"x",${inside}}`,
    `{"id ":"x"," id":"x",${inside}}`,
    `{"a.b":1,"$.id":2,"id\\u0000":3,"#line":4,"r":5,${inside}}`,
    `{"x":NaN,"y":-Infinity,"z":1e400,${inside}}`,
    `{"\\ud800":1,${inside}}`,
    `{id:1,${inside}}`,
    `{'id':1,${inside}}`,
    `{"x":01,${inside}}`,
    `{"x":[,],${inside}}`,
    `{"x":{,},${inside}}`,
    `{"x":[1,],"y":{"z":1 , },${inside}}`,
    `{"x":[1,,],${inside}}`,
    `{"x":{"amount":5},"amount":0.0,${inside}}`,
    `{"x":{"amount":0.30000000000000004},"amount":1.5,${inside}}`,
    '{}',
    '[]',
    'null',
    'true',
    '0',
    '-',
    '"',
    '{',
    '}',
    '[',
    ']',
    '{"',
    '{"id"',
    '{"id":',
    'NaN',
    'Infinity',
    '<xml/>',
    'id=1&kind=order',
    'Obj\u0001',
    Buffer.from([0xff]),
    Buffer.from([0x80]),
    Buffer.from([0xc0, 0x80]),
    Buffer.from([0xed, 0xa0, 0x80]),
    Buffer.from([0xf4, 0x90, 0x80, 0x80]),
    Buffer.from([0xf0, 0x9f, 0x98]),
    Buffer.from(sound, 'utf16le'),
    Buffer.from(`\uFEFF${sound}`, 'utf16le'),
    ...[0xff, 0x80, 0xc3, 0xed].map((byte) =>
      Buffer.concat([Buffer.from(`{"x":"`), Buffer.from([byte]), Buffer.from(`",${inside}}`)]),
    ),
    // Avro as Confluent's clients frame it, and varints and block counts without end.
    Buffer.from([0, 0, 0, 0, 1, 2, 4, 6]),
    Buffer.from([0x01, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x01]),
    Buffer.alloc(1000, 0x80),
    Buffer.alloc(1000),
    ...[10, 1000, 100_000].flatMap((depth) => {
      const lists = '['.repeat(depth) + ']'.repeat(depth);
      const objects = '{"a":'.repeat(depth) + '1' + '}'.repeat(depth);
      return [
        lists,
        objects,
        `{"x":${lists},${inside}}`,
        `{"x":${objects},${inside}}`,
        sound.replace(/"label":"[^,]*"/, `"label":${lists}`),
        '['.repeat(depth),
        '{"a":'.repeat(depth),
        `{"x":${lists.slice(0, -1)},${inside}}`,
      ];
    }),
  ];
}

/** JSON texts of fields; undefined leaves the field out. */
type Changes = Readonly<Record<string, string | undefined>>;

/** Records of about a mebibyte, each the worst for another part of the way. */
function heavyValues(soundWith: (changes: Changes) => string): (string | Buffer)[] {
  const sound = soundWith({});
  const inside = sound.slice(1, -1);
  const label = (text: string): string => soundWith({ label: `"${text}"` });
  const half = mebibyte / 2;
  return [
    label('x'.repeat(mebibyte)),
    label('\\"'.repeat(half)),
    label('\\\\'.repeat(half)),
    label('\\u0001'.repeat(mebibyte / 6)),
    label('\u{1F600}'.repeat(mebibyte / 4)),
    label(`${'x'.repeat(mebibyte)}\\u0000`),
    label(`${'x'.repeat(mebibyte)}\\ud800`),
    label('x'.repeat(mebibyte)).slice(0, -2),
    `{"${'k'.repeat(mebibyte)}":1,${inside}}`,
    `{"id":${'9'.repeat(mebibyte)}}`,
    soundWith({ amount: `0.${'0'.repeat(mebibyte)}` }),
    soundWith({ amount: `"0.${'0'.repeat(mebibyte)}"` }),
    soundWith({ amount: `"0.${'1'.repeat(mebibyte)}"` }),
    soundWith({ ratio: `1e${'9'.repeat(mebibyte)}` }),
    soundWith({ at: `"2025-03-01T06:00:00.${'1'.repeat(mebibyte)}Z"` }),
    soundWith({ device: `"${'0'.repeat(mebibyte)}"` }),
    soundWith({ kind: `"${'o'.repeat(mebibyte)}"` }),
    '['.repeat(mebibyte),
    '{"a":'.repeat(mebibyte / 5),
    '"'.repeat(mebibyte),
    ','.repeat(mebibyte),
    ' '.repeat(mebibyte),
    '-'.repeat(mebibyte),
    '\\'.repeat(mebibyte),
    `${sound}${' '.repeat(mebibyte)}`,
    `${sound}${'\r'.repeat(mebibyte)}`,
    `${sound}${'\n'.repeat(190_000)}`,
    `${sound}${'\n'.repeat(210_000)}`,
    `{${'"a":1,'.repeat(mebibyte / 6)}${inside}}`,
    `{"x":[${'1,'.repeat(half)}],${inside}}`,
    `{"x":[${'nan,'.repeat(mebibyte / 4)}],${inside}}`,
    Buffer.alloc(mebibyte, 0xff),
    Buffer.alloc(mebibyte),
    'x'.repeat(maxRecordBytes + 1),
    label('x'.repeat(maxRecordBytes - 1000)),
  ];
}

const noHeaders: RawRecord['headers'] = [];

/** Headers that a client may write, and those that only the protocol allows. */
const awkwardHeaders: readonly RawRecord['headers'][] = [
  [[Buffer.from('bulk'), Buffer.from('true')]],
  [[Buffer.from('bulk'), Buffer.from('false')]],
  [[Buffer.from('bulk'), null]],
  [[Buffer.from('bulk'), Buffer.alloc(0)]],
  [[Buffer.from('bulk'), Buffer.from([0xff, 0xfe, 0x00])]],
  [[Buffer.from('bulk'), Buffer.from('tr\0ue')]],
  [[Buffer.from('bulk'), Buffer.from('"]}\\')]],
  [
    [Buffer.from('bulk'), Buffer.from('true')],
    [Buffer.from('bulk'), Buffer.from('false')],
  ],
  [
    [Buffer.from('bulk'), Buffer.from('false')],
    [Buffer.from('bulk'), null],
  ],
  [[Buffer.from('BULK'), Buffer.from('true')]],
  [[Buffer.alloc(0), Buffer.alloc(0)]],
  [[Buffer.from('__proto__'), Buffer.from('x')]],
  [[Buffer.from('constructor'), null]],
  [[Buffer.from([0xff, 0x00, 0xc3]), Buffer.from([0, 1, 2, 255])]],
  [[Buffer.from('x'.repeat(70_000)), Buffer.from('a long name')]],
  [[Buffer.from('large'), Buffer.alloc(300_000, 7)]],
  Array.from({ length: 3000 }, (_, i) => [Buffer.from(`h${i % 40}`), Buffer.from(String(i))]),
];

const awkwardKeys: readonly (Buffer | null)[] = [
  null,
  Buffer.alloc(0),
  Buffer.from([0, 0, 0, 0]),
  Buffer.from('00000000'),
  Buffer.from([0xff, 0xfe, 0x00]),
  Buffer.from('__proto__'),
  Buffer.from('k'.repeat(1000)),
];

const awkwardTimestamps = [0n, -1n, -(2n ** 40n), 2n ** 53n + 1n, 2n ** 62n, 253_402_300_800_000n];

/** Bad, nearly bad and good records, mixed, from a seed. */
export class BadRecords {
  readonly #dice: Dice;
  #made = 0;

  constructor(seed: number) {
    this.#dice = new Dice(seed);
  }

  /** Each hand-picked record at least once, each with good neighbours. */
  *handPicked(): Generator<RawRecord> {
    for (const value of awkwardRecords(this.#sound())) {
      yield this.#with(value);
      yield this.good();
    }
    for (const { name } of fields) {
      for (const text of awkwardValues) {
        yield this.#with(this.#sound({ [name]: text }));
        if (this.#dice.chance(0.1)) {
          yield this.good();
        }
      }
      yield this.#with(this.#sound({ [name]: undefined }));
    }
    for (const headers of awkwardHeaders) {
      yield { ...this.good(), headers };
      yield { ...this.#with('{'), headers };
    }
    for (const key of awkwardKeys) {
      yield { ...this.good(), key };
      yield { ...this.#with(null), key };
    }
    for (const timestamp of awkwardTimestamps) {
      yield { ...this.good(), timestamp };
      yield { ...this.#with('{}'), timestamp };
    }
    const largeKey = Buffer.alloc(mebibyte, 'key');
    yield { ...this.good(), key: largeKey };
    yield { ...this.#with('not JSON'), key: largeKey };
  }

  *heavy(): Generator<RawRecord> {
    for (const value of heavyValues((changes) => this.#sound(changes))) {
      yield this.#with(value);
      yield this.good();
    }
  }

  good(): RawRecord {
    return this.#with(this.#sound());
  }

  /** A sound record whose fields, bytes or text are spoiled, or aren't. */
  mutant(): RawRecord {
    const dice = this.#dice.fraction();
    if (dice < 0.35) {
      return this.good();
    }
    if (dice < 0.6) {
      const changes: Record<string, string> = {};
      for (let i = this.#dice.below(3); i >= 0; i--) {
        changes[this.#dice.of(fields).name] = this.#dice.of(awkwardValues);
      }
      return this.#adorned(this.#with(this.#sound(changes)));
    }
    if (dice < 0.72) {
      // One field's text, a little off.
      const { name } = this.#dice.of(fields);
      const times = name === 'at' || name === 'event_time' || name === 'day';
      const text = Buffer.from(this.#dice.of(times ? timeValues : awkwardValues));
      return this.#with(this.#sound({ [name]: this.#mangled(text).toString('latin1') }));
    }
    if (dice < 0.77) {
      const text = this.#sound();
      return this.#with(text.slice(0, this.#dice.below(text.length)));
    }
    if (dice < 0.8) {
      return this.#adorned(this.#with(this.#dice.of(awkwardRecords(this.#sound()).slice(0, 80))));
    }
    return this.#adorned(this.#with(this.#mangled(Buffer.from(this.#sound()))));
  }

  #adorned(record: RawRecord): RawRecord {
    return {
      ...record,
      key: this.#dice.chance(0.2) ? this.#dice.of(awkwardKeys) : record.key,
      headers: this.#dice.chance(0.2) ? this.#dice.of(awkwardHeaders.slice(0, 14)) : record.headers,
    };
  }

  #mangled(text: Buffer): Buffer {
    let bytes = text;
    for (let i = this.#dice.below(4); i >= 0; i--) {
      const at = this.#dice.below(bytes.length + 1);
      const to = Math.min(bytes.length, at + 1 + this.#dice.below(6));
      const inserted = Buffer.from(
        this.#dice.of([...awkwardCharacters, '\u{1F600}', '\\u00', '\\ud8', ',,', '""', 'null']),
      );
      const raw = this.#dice.chance(0.1) ? Buffer.from([this.#dice.below(256)]) : inserted;
      const [head, tail] = [bytes.subarray(0, at), bytes.subarray(at)];
      bytes = this.#dice.of([
        () => Buffer.concat([head, raw, tail]),
        () => Buffer.concat([head, raw, bytes.subarray(at + 1)]),
        () => Buffer.concat([head, bytes.subarray(to)]),
        () => Buffer.concat([bytes.subarray(0, to), tail]),
      ])();
    }
    return bytes;
  }

  /** A sound record, but for the changes. */
  #sound(changes: Changes = {}): string {
    const time = begin + this.#made * 20 - this.#dice.below(5000);
    const values: Record<string, string | undefined> = {
      id: String(++this.#made),
      kind: this.#dice.of(['"order"', '"refund"', '"test"']),
      amount: this.#dice.of([
        String(this.#dice.below(1e6) / 100),
        `"${this.#dice.below(1e6)}.5"`,
        'null',
      ]),
      precise: `"${this.#dice.below(1e9)}.${this.#dice.below(1e9)}"`,
      quantity: String(this.#dice.below(100) - 20),
      big: this.#dice.of(['9007199254740993', '-9007199254740993', '17']),
      ratio: String(this.#dice.fraction()),
      single: '0.5',
      flag: String(this.#dice.chance(0.5)),
      label: this.#dice.of(['"plain"', '"7"', '"café"', '""', '"a \\"quote\\", a comma"']),
      day: '"2024-02-29"',
      at: String(time * 1000 + this.#dice.below(1000)),
      device: '"f47ac10b-58cc-4372-a567-0e02b2c3d479"',
      event_time: String(time),
      ...changes,
    };
    const members = Object.entries(values).filter(([, text]) => text !== undefined);
    return `{${members.map(([name, text]) => `"${name}":${text}`).join(',')}}`;
  }

  #with(value: string | Buffer | null): RawRecord {
    return {
      key: null,
      value: typeof value === 'string' ? Buffer.from(value) : value,
      headers: noHeaders,
      timestamp: BigInt(begin + this.#made * 20),
    };
  }
}
