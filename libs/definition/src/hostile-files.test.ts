import { type ChildProcess, spawn } from 'node:child_process';
import { once } from 'node:events';
import { createInterface } from 'node:readline';
import { fileURLToPath } from 'node:url';
import { afterEach, expect, it } from 'vitest';

const fixture = fileURLToPath(new URL('hostile-files.fixture.ts', import.meta.url));
/** The worst of these takes two seconds where the machine is idle. */
const patience = 60_000;

let child: ChildProcess | undefined;

afterEach(() => {
  child?.kill('SIGKILL');
});

interface Files {
  readonly text: string;
  readonly schema: string;
}

interface Answer {
  readonly problems?: readonly {
    readonly file: string;
    readonly line: number;
    readonly column: number;
    readonly message: string;
  }[];
  /** Characters of the error's message. */
  readonly shown?: number;
  readonly error?: string;
  readonly kilobytes: number;
}

/**
 * Has the files read in a process of its own.
 * @returns how many are sound
 * @throws Error naming the files that ended it, hung it, or failed otherwise than by a DefinitionError
 */
async function read(files: Iterable<readonly [name: string, files: Files]>): Promise<number> {
  const started = spawn(process.execPath, ['--max-old-space-size=512', fixture], { stdio: 'pipe' });
  child = started;
  let complaints = '';
  started.stderr.on('data', (chunk: Buffer) => (complaints += chunk.toString()));
  const lines = createInterface({ input: started.stdout })[Symbol.asyncIterator]();
  let sound = 0;
  for (const [name, input] of files) {
    // Line separators of Unicode would end the line for the reader.
    const json = JSON.stringify(input).replaceAll(/[\u2028\u2029]/g, (one) =>
      one === '\u2028' ? '\\u2028' : '\\u2029',
    );
    started.stdin.write(`${json}\n`);
    const late = setTimeout(() => started.kill('SIGKILL'), patience);
    const line = await lines.next();
    clearTimeout(late);
    if (line.done) {
      if (started.exitCode === null && started.signalCode === null) {
        await once(started, 'exit');
      }
      throw new Error(
        `${name} ended or hung the process (${String(started.exitCode ?? started.signalCode)}). ${complaints.slice(-2000)}`,
      );
    }
    const { problems = [], shown = 0, error, kilobytes } = JSON.parse(line.value) as Answer;
    if (error !== undefined) {
      throw new Error(`${name} fails with ${error}`);
    }
    sound += problems.length === 0 ? 1 : 0;
    const lost = problems.filter(
      ({ file, line: at, column, message }) =>
        !['anabranch.yaml', 'orders.avsc'].includes(file) || at < 1 || column < 1 || message === '',
    );
    expect({ name, lost, long: shown > 50_000, large: kilobytes > 1024 * 1024 }).toEqual({
      name,
      lost: [],
      long: false,
      large: false,
    });
  }
  return sound;
}

const schema = JSON.stringify({
  type: 'record',
  name: 'Order',
  namespace: 'shop',
  fields: [
    { name: 'a', type: 'long' },
    { name: 'kind', type: { type: 'enum', name: 'Kind', symbols: ['x', 'y'] }, default: 'x' },
    {
      name: 'amount',
      type: ['null', { type: 'bytes', logicalType: 'decimal', precision: 12, scale: 2 }],
      default: null,
    },
    { name: 'event_time', type: { type: 'long', logicalType: 'timestamp-millis' } },
  ],
});

const text = `sources:
  orders:
    topic: orders
    schema: orders.avsc # of the records
    event_time: event_time
    disorder: 5s
    split:
      - { name: bulk, when: "headers['bulk'] = 'true'", to: batch }
      - name: late
        when: >
          late_by > interval '2 minutes'
          and a > 0
        to: batch
    batch: { every: 5s, backlog: 64MiB }
tables:
  rows: &rows { source: orders, columns: { b: a + 1, event_time: } }
  latest: { source: orders, columns: [a, kind], key: [kind] }
  per_minute:
    source: orders
    drop_nulls: [amount]
    window: { tumbling: 1m, grace: 10s }
    group_by: [kind]
    aggregates: { n: count(*), total: sum(amount) }
`;

/** As long as a definition may be, and a schema. */
const long = 250_000;
const longest = 1_000_000;

const bomb = (open: string, close: string): string =>
  `a0: &a0 ${open}${'x, '.repeat(9)}x${close}\n${Array.from({ length: 20 }, (_, i) => `a${String(i + 1)}: &a${String(i + 1)} ${open}${`*a${String(i)}, `.repeat(9)}*a${String(i)}${close}\n`).join('')}`;
const lines = (count: number, line: (i: number) => string): string =>
  Array.from({ length: count }, (_, i) => line(i)).join('\n');

it('that are made to exhaust the reader are refused with a place, and soon', async () => {
  const definitions: Record<string, string> = {
    'an alias bomb of lists': bomb('[', ']'),
    'an alias bomb of maps': bomb('[{a: [', ']}]'),
    'aliases of a merge key': `x: &x {a: 1}\ny: {${Array(2000).fill('<<: *x').join(', ')}}`,
    'aliases without anchors': lines(40_000, () => '- *a'),
    'an alias of itself': 'sources: &a [*a]',
    'open lists': '['.repeat(long),
    'nested lists': '['.repeat(5000) + ']'.repeat(5000),
    'open maps': '{a: '.repeat(long / 4),
    dashes: '- '.repeat(long / 2),
    'question marks': '? '.repeat(long / 2),
    colons: ': '.repeat(long / 2),
    commas: `[${','.repeat(long)}]`,
    'commas in a map': `{${','.repeat(long)}}`,
    brackets: '[]'.repeat(long / 2),
    closers: `{a: 1}${'}'.repeat(long)}`,
    tags: '!!str '.repeat(40_000) + 'x',
    bangs: '! '.repeat(long / 2),
    anchors: '&a '.repeat(long / 3),
    stars: '*a '.repeat(long / 3),
    'a binary': `sources: !!binary ${'A'.repeat(long)}`,
    'sets, omaps and functions': '{a: !!set {b}, c: !!omap [d: 1], e: !!js/function "f"}',
    python: 'sources: !!python/object/apply:os.system ["id"]',
    directives: '%YAML 1.2\n'.repeat(20_000),
    'a tag of its own': '%TAG ! tag:example.com,2000:\n--- !orders {}',
    documents: '---\n'.repeat(long / 4),
    'ends of documents': '...\n'.repeat(long / 4),
    'line feeds': '\n'.repeat(long),
    'carriage returns': '\r'.repeat(long),
    tabs: '\t'.repeat(long),
    spaces: ' '.repeat(long),
    comments: '# a\n'.repeat(long / 4),
    escapes: `sources: "${'\\u0041'.repeat(40_000)}"`,
    backslashes: `"${'\\'.repeat(long)}`,
    'a text': `sources: "${'x'.repeat(long)}"`,
    'a key': `${'x'.repeat(long)}: 1`,
    'a number': `sources: ${'9'.repeat(long)}`,
    'a number with dots': `sources: ${'1.'.repeat(long / 2)}`,
    'a block without an indent': `a: |9\n${'x\n'.repeat(100_000)}`,
    'keys again': 'a: 1\n'.repeat(50_000),
    sources: `sources:\n${lines(15_000, (i) => `  s${String(i)}: x`)}`,
    'tables of unknown sources': `sources:\n${lines(2000, (i) => `  s${String(i)}: {schema: x, event_time: e}`)}\ntables:\n${lines(2000, (i) => `  t${String(i)}: {source: t${String(i)}, columns: [a]}`)}`,
    'open aggregates': text.replace('count(*)', `"${'sum('.repeat(20_000)}"`),
    'a cron of commas': text.replace('every: 5s', `cron: "${'*/1,'.repeat(40)} * * * *"`),
    'a cron that never comes': text.replace('every: 5s', 'cron: "0 0 30 2 *"'),
    'ten megabytes': 'x'.repeat(10_000_000),
    nothing: '',
    __proto__: `__proto__: {schema: public}\n${text}`,
    'a source __proto__': text.replace(
      '  orders:',
      '  __proto__: {schema: x, event_time: e}\n  orders:',
    ),
    'a source of Object’s': text.replace('source: orders', 'source: constructor'),
    'a NUL': 'a\0b: 1',
    'half of a pair': 'sources: "\ud800"',
    'half of a pair, escaped': 'sources: "\\ud800"',
    'the other direction': `\u202e${text}`,
    'other lines': text.replaceAll('\n', '\u2028'),
    'next lines': text.replaceAll('\n', '\u0085'),
    'old Macs': text.replaceAll('\n', '\r'),
    null: '~',
    infinity: 'sources: .inf',
  };
  const schemas: Record<string, string> = {
    'open lists': '['.repeat(longest),
    'open objects': '{"a":'.repeat(longest / 5),
    'nested types': `{"type":"record","name":"O","fields":[{"name":"a","type":${'{"type":'.repeat(20_000)}"long"${'}'.repeat(20_000)}}]}`,
    'nested unions': `{"type":"record","name":"O","fields":[{"name":"a","type":${'['.repeat(20_000)}"null"${']'.repeat(20_000)}}]}`,
    values: `[${'1,'.repeat(longest / 2 - 10)}1]`,
    'values and a mistake': `[${'1,'.repeat(longest / 2 - 10)}x]`,
    keys: `{${Array.from({ length: 60_000 }, (_, i) => `"k${String(i)}":1`).join(',')}}`,
    fields: JSON.stringify({
      type: 'record',
      name: 'O',
      fields: Array.from({ length: 15_000 }, (_, i) => ({ name: `f${String(i)}`, type: 'long' })),
    }),
    'fields of one name': JSON.stringify({
      type: 'record',
      name: 'O',
      fields: Array.from({ length: 900 }, () => ({ name: 'a', type: 'long' })),
    }),
    itself: '{"type":"record","name":"O","fields":[{"name":"a","type":"O"}]}',
    'a huge fixed':
      '{"type":"record","name":"O","fields":[{"name":"a","type":{"type":"fixed","name":"F","size":1000000000000000,"logicalType":"decimal","precision":10}}]}',
    'a huge decimal':
      '{"type":"record","name":"O","fields":[{"name":"a","type":{"type":"bytes","logicalType":"decimal","precision":1000000000}}]}',
    __proto__:
      '{"type":"record","name":"O","__proto__":{"fields":[]},"fields":[{"name":"__proto__","type":"long"}]}',
    'a name': JSON.stringify({
      type: 'record',
      name: 'O',
      fields: [{ name: 'a'.repeat(900_000), type: 'long' }],
    }),
    aliases: '[&a 1, *a]',
    'a tag': '!!js {}',
    NaN: '{"type":"record","name":"O","fields":[{"name":"a","type":"double","default":NaN}]}',
    'half of it': schema.slice(0, 150),
    spaces: ' '.repeat(longest),
    quotes: '"'.repeat(longest),
    'a NUL': '\0',
    nothing: '',
    'ten megabytes': 'x'.repeat(10_000_000),
  };
  const sound = await read([
    ...Object.entries(definitions).map(([name, bad]) => [name, { text: bad, schema }] as const),
    ...Object.entries(schemas).map(([name, bad]) => [name, { text, schema: bad }] as const),
  ]);
  expect(sound).toBe(0);
}, 600_000);

it('that are spoiled at random are sound or are refused with a place', async () => {
  const seed = Number(process.env['HOSTILE_SEED'] ?? 1);
  const random = mulberry32(seed);
  const below = (limit: number): number => Math.floor(random() * limit);
  const pieces =
    '{|}|[|]|: |- |, |&a |*a|!!str |#|"|\'|>|\n|\n  |\t|? |<<: |~|null|true|1|0x1|.nan|\\|%|---\n|\0|\u{1F600}|\u2028|\ufeff|\ud800|__proto__|orders|sources|type|name|||long|null'.split(
      '|',
    );
  const spoiled = (sound: string): string => {
    let bad = sound;
    for (let i = below(4); i >= 0; i--) {
      const at = below(bad.length + 1);
      const end = at + below(below(2) === 0 ? 3 : 40);
      const other = below(bad.length);
      const piece = [pieces[below(pieces.length)] ?? '', bad.slice(other, other + below(60))][
        below(2)
      ];
      bad = bad.slice(0, at) + (piece ?? '') + bad.slice(below(2) === 0 ? at : end);
    }
    return bad;
  };
  const count = Number(process.env['HOSTILE_COUNT'] ?? 1500);
  const files = Array.from({ length: count }, (_, i): [string, Files] => {
    const made = i % 3 === 0 ? { text, schema: spoiled(schema) } : { text: spoiled(text), schema };
    return [JSON.stringify(made), made];
  });
  try {
    // Else the text that is spoiled would be bad itself.
    expect(await read(files)).toBeGreaterThan(count / 50);
  } catch (error) {
    throw new Error(
      `Again: HOSTILE_SEED=${String(seed)} npm test -- libs/definition/src/hostile-files`,
      { cause: error },
    );
  }
}, 600_000);

/** A small generator of random numbers in [0, 1): the same seed gives the same ones everywhere. */
function mulberry32(seed: number): () => number {
  let state = seed;
  return () => {
    state = (state + 0x6d2b79f5) | 0;
    let mixed = Math.imul(state ^ (state >>> 15), state | 1);
    mixed ^= mixed + Math.imul(mixed ^ (mixed >>> 7), mixed | 61);
    return ((mixed ^ (mixed >>> 14)) >>> 0) / 4_294_967_296;
  };
}
