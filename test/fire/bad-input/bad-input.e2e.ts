import { readFileSync } from 'node:fs';
import { afterEach, expect, inject, onTestFailed, test } from 'vitest';
import { type Chain, openChain } from '../../chain.ts';
import { type Expectation, expectationOf, fields, maxRecordBytes } from './expectation.ts';
import { produceRaw, type RawRecord } from './raw-producer.ts';
import { BadRecords } from './records.ts';

const partitions = 3;
const mutants = 5000;
/** Of the values in a record batch, at most: sixteen times what a broker allows unless it is told more. */
const batchBytes = 16 * 1024 * 1024;
/** How often each of the heaviest records comes. */
const heavyRounds = 2;
/** What the chart lets each service have: beyond that it would be killed. */
const mostResident = (service: string): number => (service === 'fusion' ? 512 : 1024) * 1024 * 1024;

/** Where the expression of table numbered holds. */
const isNumber = `(label IS NULL OR (label ~ '^[0-9]+$' AND pg_input_is_valid(label, 'integer')))`;
/** Bytes of text that a key may have. */
const longestKey = 1500;

interface Sent {
  readonly partition: number;
  readonly offset: bigint;
  readonly record: RawRecord;
  readonly expected: Expectation;
}

const schema = {
  type: 'record',
  name: 'Bad',
  fields: fields.map(({ name, type, required }) =>
    required ? { name, type } : { name, type: ['null', type], default: null },
  ),
};

/** Rules that use headers, sizes and times, and one that fails on most labels. */
const define =
  (defaultBranch: 'stream' | 'batch') =>
  (source: string, topic: string): { 'anabranch.yaml': string; 'bad.avsc': string } => ({
    'bad.avsc': JSON.stringify(schema),
    'anabranch.yaml': `
sources:
  ${source}:
    topic: ${topic}
    schema: bad.avsc
    event_time: event_time
    idle_timeout: never
    max_record_bytes: ${maxRecordBytes / 1024 / 1024}MiB
    split:
      - { name: bulk, when: "headers['bulk'] = 'true'", to: batch }
      - { name: live, when: "headers['bulk'] = 'false'", to: stream }
      - { name: fragile, when: "cast(label as integer) > 5", to: batch }
      - { name: aged, when: "age > interval '1 day'", to: batch }
      - { name: large, when: "bytes > 100000", to: stream }
      - { name: late, when: "late_by > interval '1 hour'", to: batch }
    default_branch: ${defaultBranch}
    batch: { every: 1s }

tables:
  records:
    source: ${source}
    columns: [${fields.map(({ name }) => name).join(', ')}]

  numbered:
    description: Its expression fails on most labels.
    source: ${source}
    where: kind = 'test'
    columns:
      id:
      number: cast(case when label is null or regexp_full_match(label, '[0-9]+') then label else 'none' end as integer)

  per_hour:
    source: ${source}
    window: { tumbling: 1h }
    group_by: [kind]
    aggregates:
      records: count(*)
      labels: count(label)
      total: sum(amount)
      mean: avg(precise)
      pieces: sum(quantity)
      big: sum(big)
      least: min(label)
      last: max("at")

  latest_by_label:
    source: ${source}
    columns: { label:, id:, quantity: }
    key: [label]
`,
  });

const given = Number(process.env['BAD_INPUT_SEED'] ?? 'NaN');

let chain: Chain;
let sampling: NodeJS.Timeout | undefined;

afterEach(() => {
  clearInterval(sampling);
});

test.each([
  ['stream', 1],
  ['batch', 2],
] as const)(
  'bad records are stored exactly or are dead letters, byte for byte, their neighbours untouched; default branch %s',
  async (defaultBranch, ownSeed) => {
    const seed = Number.isNaN(given) ? ownSeed : given;
    onTestFailed(() => {
      console.error(
        `Again: BAD_INPUT_SEED=${seed} npm test -- test/fire/bad-input -t 'branch ${defaultBranch}'`,
      );
    });
    chain = await openChain({ define: define(defaultBranch), partitions, createTopic: false });
    await chain.kafka.admin.ensureTopics([
      {
        name: chain.topic,
        partitions,
        configs: {
          'retention.ms': '-1',
          'max.message.bytes': String(64 * 1024 * 1024),
          // By default a broker refuses times far from its own.
          'message.timestamp.after.max.ms': String(2n ** 63n - 1n),
        },
      },
    ]);
    const services = Object.values(chain.startAll());
    const most = new Map<string, number>();
    sampling = setInterval(() => {
      for (const { service, pid } of services) {
        most.set(service, Math.max(most.get(service) ?? 0, residentBytes(pid)));
      }
    }, 100);

    const records = new BadRecords(seed);
    const sent: Sent[] = [];
    await produce(sent, [
      ...records.handPicked(),
      ...Array.from({ length: mutants }, () => records.mutant()),
    ]);
    await settled(sent);
    const begun = performance.now();
    let bytes = 0;
    for (let round = 0; round < heavyRounds; round++) {
      const heavy = [...records.heavy()];
      bytes += heavy.reduce((sum, { value }) => sum + (value?.length ?? 0), 0);
      await produce(sent, heavy, round % 2 === 0 ? 'none' : 'gzip');
      await settled(sent);
    }
    const seconds = (performance.now() - begun) / 1000;
    const megabytes = (value: number): number => Math.round(value / 1024 / 1024);
    console.log(
      `${sent.length} records, seed ${seed}; ${megabytes(bytes)} MiB of the heaviest in ${seconds.toFixed(1)} s; most resident: ${[...most].map(([service, value]) => `${service} ${megabytes(value)} MiB`).join(', ')}`,
    );

    await expectStored(sent);
    await expectTables();
    await expectLetters(sent);
    await expectBalance(sent);
    expect(services.filter(({ isRunning }) => !isRunning)).toEqual([]);
    for (const [service, resident] of most) {
      expect(resident, `memory of ${service}`).toBeLessThan(mostResident(service));
    }
  },
);

function residentBytes(pid: number): number {
  try {
    const status = readFileSync(`/proc/${pid}/status`, 'utf8');
    return Number(/^VmRSS:\s+(\d+) kB$/m.exec(status)?.[1] ?? 0) * 1024;
  } catch {
    return 0;
  }
}

/** In batches of many sizes, some of one record, over all partitions. */
async function produce(
  sent: Sent[],
  records: readonly RawRecord[],
  codec?: 'none' | 'gzip',
): Promise<void> {
  const sizes = [1, 7, 200, 30];
  for (let at = 0, turn = 0; at < records.length; turn++) {
    let size = sizes[turn % sizes.length] ?? 1;
    let bytes = 0;
    for (let i = at; i < Math.min(at + size, records.length); i++) {
      bytes += records[i]?.value?.length ?? 0;
      if (bytes > batchBytes) {
        size = Math.max(1, i - at);
      }
    }
    const batch = records.slice(at, at + size);
    at += size;
    const partition = turn % partitions;
    const first = await produceRaw(
      inject('kafkaBrokers').split(',')[0] ?? '',
      chain.topic,
      partition,
      batch,
      codec ?? (turn % 3 === 0 ? 'gzip' : 'none'),
    );
    batch.forEach((record, i) => {
      const expected = expectationOf(record.value);
      sent.push({ partition, offset: first + BigInt(i), record, expected });
    });
  }
}

/** All applied, and all dead letters stored. */
async function settled(sent: readonly Sent[]): Promise<void> {
  const ends = new Map<number, bigint>();
  for (const { partition, offset } of sent) {
    ends.set(partition, offset + 1n);
  }
  let seen: unknown;
  await chain.eventually(
    'all records to be applied',
    async () => {
      const frontiers = await chain.frontiers();
      seen = frontiers.map(({ partition, branch, next }) => `${partition} ${branch} ${next}`);
      if (frontiers.length > 0) {
        expect(await chain.query('SELECT verdict, branch FROM anabranch.conflicts')).toEqual([]);
      }
      const through = frontiers.filter(
        ({ partition, next }) => next >= (ends.get(partition) ?? 0n),
      );
      return through.length === 2 * partitions ? true : undefined;
    },
    () => `Ends: ${[...ends].join(' ')}; frontiers: ${String(seen)}`,
  );
  await chain.eventually('all dead letters to be stored', async () => {
    const [row] = await chain.query<{ stored: string; counted: string }>(`
      SELECT (SELECT count(*) FROM anabranch.dead_letters) AS stored,
        (SELECT coalesce(sum(dead_records), 0) FROM anabranch.ledger WHERE branch = 'stream')
        + (SELECT coalesce(sum(dead_records), 0) FROM anabranch.table_counts) AS counted`);
    return row?.stored === row?.counted ? true : undefined;
  });
}

/** Each sound record is a row of exactly its values. */
async function expectStored(sent: readonly Sent[]): Promise<void> {
  const rows = sent.flatMap(({ partition, offset, expected }) =>
    'row' in expected ? [{ partition, offset, row: expected.row }] : [],
  );
  const names = fields.map(({ name }) => `"${name}"`);
  await chain.query(
    `CREATE SCHEMA expected; CREATE TABLE expected.records (partition int, "offset" bigint, ${fields.map(({ name, postgres }) => `"${name}" ${postgres}`).join(', ')})`,
  );
  for (let at = 0; at < rows.length; at += 500) {
    const some = rows.slice(at, at + 500);
    await chain.query(
      `INSERT INTO expected.records SELECT partition, "offset", ${fields.map(({ name, postgres }) => `"${name}"::${postgres}`).join(', ')}
       FROM unnest($1::int[], $2::bigint[], ${fields.map((_, i) => `$${i + 3}::text[]`).join(', ')}) AS t (partition, "offset", ${names.join(', ')})`,
      [
        some.map(({ partition }) => partition),
        some.map(({ offset }) => offset),
        ...fields.map((_, i) => some.map(({ row }) => row[i])),
      ],
    );
  }
  // Texts as hashes: a difference should be printable.
  const shown = fields.map(({ name }) =>
    name === 'label'
      ? `CASE WHEN length(label) > 200 THEN md5(label) ELSE label END COLLATE "C" AS label`
      : `"${name}"`,
  );
  const differences = await chain.query(`
    SELECT CASE WHEN sum(sign) > 0 THEN 'missing' ELSE 'too much' END AS what, partition, "offset", ${names.join(', ')}
    FROM (
      SELECT 1 AS sign, partition, "offset", ${shown.join(', ')} FROM expected.records
      UNION ALL SELECT -1, source_partition, source_offset, ${shown.join(', ')} FROM public.records) e
    GROUP BY partition, "offset", ${names.join(', ')} HAVING sum(sign) <> 0 ORDER BY partition, "offset" LIMIT 8`);
  expect(differences).toEqual([]);
  const [counts] = await chain.query<{ rows: string }>(
    'SELECT count(*) AS rows FROM public.records',
  );
  expect(Number(counts?.rows)).toBe(rows.length);
  expect(rows.length).toBeGreaterThan(1000);
}

/** What is made of the sound records has nothing of the bad ones. */
async function expectTables(): Promise<void> {
  await chain.query(`
    CREATE TABLE expected.per_hour AS
      SELECT date_bin('1 hour', event_time, 'epoch') AS window_start, kind, count(*) AS records, count(label) AS labels,
        sum(amount) AS total, sum(precise) / nullif(count(precise), 0) AS mean, sum(quantity) AS pieces, sum(big) AS big,
        min(label COLLATE "C") AS least, max("at") AS "last"
      FROM expected.records GROUP BY 1, 2;
    CREATE TABLE expected.latest_by_label AS
      SELECT DISTINCT ON (label) label, id, quantity FROM expected.records
      WHERE coalesce(octet_length(label), 0) <= ${longestKey}
      ORDER BY label, event_time DESC, partition DESC, "offset" DESC;
    CREATE TABLE expected.numbered AS
      SELECT id, label::integer AS number FROM expected.records
      WHERE kind = 'test' AND ${isNumber}`);
  for (const [table, columns] of [
    [
      'per_hour',
      'window_start, kind, records, labels, total, mean, pieces, big, md5(least) AS least, "last"',
    ],
    ['latest_by_label', 'label, id, quantity'],
    ['numbered', 'id, number'],
  ]) {
    for (const [a, b] of [
      ['expected', 'public'],
      ['public', 'expected'],
    ]) {
      const differences = await chain.query(
        `SELECT ${columns} FROM ${a}.${table} EXCEPT ALL SELECT ${columns} FROM ${b}.${table} LIMIT 5`,
      );
      expect(differences, `of ${table}, in ${a} and not in ${b}`).toEqual([]);
    }
  }
  // A record that only one table can't take counts in the others.
  const letters = await chain.query(
    `SELECT table_name, code, count(*)::int AS records FROM anabranch.dead_letters WHERE table_name <> '' GROUP BY 1, 2 ORDER BY 1`,
  );
  expect(letters).toEqual(
    await chain.query(`
      SELECT 'latest_by_label' AS table_name, 'expression' AS code, count(*)::int AS records FROM expected.records WHERE octet_length(label) > ${longestKey}
      UNION ALL SELECT 'numbered', 'expression', count(*)::int FROM expected.records WHERE kind = 'test' AND NOT ${isNumber}`),
  );
  expect(letters).toHaveLength(2);
}

/** Each bad record is a dead letter, with its bytes and one of the reasons possible. */
async function expectLetters(sent: readonly Sent[]): Promise<void> {
  const letters = new Map<string, Letter>();
  const stored = await chain.query<Letter>(
    `SELECT partition, record_offset, code, reason, record_key, record_value, record_headers FROM anabranch.dead_letters WHERE table_name = ''`,
  );
  for (const letter of stored) {
    letters.set(`${letter.partition}:${letter.record_offset}`, letter);
  }
  const faults: string[] = [];
  for (const { partition, offset, record, expected } of sent) {
    const place = `${partition}:${offset}`;
    const letter = letters.get(place);
    letters.delete(place);
    const value = String(record.value?.subarray(0, 300));
    if ('row' in expected) {
      if (letter) {
        faults.push(`${place} is sound, but dead (${letter.code}, ${letter.reason}): ${value}`);
      }
    } else if (!letter) {
      faults.push(`${place} is ${expected.dead.join(' or ')}, but no dead letter: ${value}`);
    } else if (!expected.dead.includes(letter.code) || letter.reason === '') {
      faults.push(
        `${place} is ${expected.dead.join(' or ')}, not ${letter.code} (${letter.reason}): ${value}`,
      );
    } else if (
      !same(letter.record_key, record.key) ||
      !same(letter.record_value, record.value) ||
      !sameHeaders(letter.record_headers, record.headers)
    ) {
      faults.push(`${place} has other bytes in its dead letter: ${value}`);
    }
  }
  faults.push(...[...letters.keys()].map((place) => `${place} is a dead letter of no record`));
  expect(faults.slice(0, 10), `${faults.length} faults`).toEqual([]);
}

interface Letter {
  readonly partition: number;
  readonly record_offset: string;
  readonly code: string;
  readonly reason: string;
  readonly record_key: Buffer | null;
  readonly record_value: Buffer | null;
  readonly record_headers: readonly { readonly name: string; readonly value: string | null }[];
}

function same(found: Buffer | null, produced: Buffer | null): boolean {
  return found === null || produced === null ? found === produced : found.equals(produced);
}

/** A name that isn't text is shown with replacement characters, and so is a NUL. */
function sameHeaders(found: Letter['record_headers'], produced: RawRecord['headers']): boolean {
  return (
    found.length === produced.length &&
    produced.every(([name, value], i) => {
      const header = found[i];
      return (
        header?.name === name.toString().replaceAll('\0', '\u{FFFD}') &&
        header.value === (value?.toString('base64') ?? null)
      );
    })
  );
}

async function expectBalance(sent: readonly Sent[]): Promise<void> {
  expect(await chain.query('SELECT * FROM anabranch.conflicts')).toEqual([]);
  expect(await chain.query('SELECT * FROM anabranch.ledger_faults')).toEqual([]);
  const balance = await chain.query<Record<string, string>>('SELECT * FROM anabranch.balance');
  expect(balance.map(({ records, outstanding }) => ({ records, outstanding }))).toEqual(
    balance.map(() => ({ records: String(sent.length), outstanding: '0' })),
  );
  expect(balance).toHaveLength(4);
}
