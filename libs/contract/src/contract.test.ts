import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import {
  type Block,
  ContractError,
  decodeBlock,
  decodeDeadLetters,
  costIn,
  decodeIngestPosition,
  decodeTelemetry,
  decodeProcessorPosition,
  encodeBlock,
  encodeDeadLetters,
  encodeIngestPosition,
  encodePartial,
  encodeProcessorPosition,
  encodeTelemetry,
  isTelemetry,
  type Telemetry,
  withCost,
  type Partial,
  PartialAssembler,
} from './index.ts';

const long = fc.bigInt({ min: -(2n ** 63n), max: 2n ** 63n - 1n });
const bytes = fc.uint8Array({ maxLength: 200 }).map((array) => Buffer.from(array));
const coverage = {
  source: fc.string(),
  partition: fc.nat({ max: 1000 }),
  origin: long,
  from: long,
  to: long,
  epoch: long,
  watermark: fc.option(long),
  definition: fc.string(),
  split: fc.record({ stream: long, batch: long, dead: long, rules: fc.array(long) }),
};
const block: fc.Arbitrary<Block> = fc.record({
  ...coverage,
  producedAt: long,
  runs: fc.array(fc.record({ start: long, count: fc.nat() })),
  altered: fc.array(
    fc.record({ record: fc.nat(), byteOrderMark: fc.boolean(), lineFeeds: fc.array(fc.nat()) }),
  ),
  payload: bytes,
});
const seconds = fc.double({ noNaN: true });
const measures = {
  bytes: long,
  records: long,
  rows: long,
  load: seconds,
  preprocess: seconds,
  process: seconds,
  store: seconds,
};
const partial: fc.Arbitrary<Partial> = fc.record({
  ...coverage,
  branch: fc.constantFrom('stream', 'batch'),
  producedAt: long,
  tables: fc.array(
    fc.record({
      name: fc.string(),
      hash: fc.string(),
      read: long,
      filtered: long,
      aggregated: long,
      dead: long,
      rows: long,
      text: fc.oneof(
        bytes,
        fc.nat({ max: 2_500_000 }).map((size) => Buffer.alloc(size, 97)),
      ),
    }),
    { maxLength: 3 },
  ),
  run: fc.option(
    fc.record({
      id: fc.string(),
      instance: fc.string(),
      trigger: fc.string(),
      startedAt: long,
      finishedAt: fc.option(long),
      ...measures,
    }),
  ),
});

const times = { load: seconds, preprocess: seconds, process: seconds, store: seconds };
const where = { service: fc.string(), instance: fc.string(), source: fc.string() };
const telemetry: fc.Arbitrary<Telemetry> = fc.record({
  costs: fc.array(
    fc.record({
      ...where,
      branch: fc.option(fc.constantFrom('stream', 'batch')),
      finishedAt: long,
      steps: long,
      ...measures,
      cpu: seconds,
      predicted: fc.record(times),
      predictedSteps: long,
      errors: fc.array(fc.record({ stage: fc.string(), atMost: seconds, steps: long })),
      tables: fc.array(fc.record({ table: fc.string(), records: long, rows: long, seconds })),
    }),
  ),
  models: fc.array(
    fc.record({
      ...where,
      branch: fc.option(fc.constantFrom('stream', 'batch')),
      at: long,
      sustained: fc.option(seconds),
      stages: fc.array(
        fc.record({
          stage: fc.string(),
          unit: fc.string(),
          fixed: seconds,
          each: seconds,
          samples: long,
        }),
      ),
    }),
  ),
  decisions: fc.array(
    fc.record({
      ...where,
      at: long,
      kind: fc.string(),
      decision: fc.string(),
      figures: fc.string(),
    }),
  ),
});

/** Texts are compared apart: megabytes are slow to compare element by element. */
const withoutTexts = (whole: Partial): object => ({
  ...whole,
  tables: whole.tables.map((table) => ({ ...table, text: null })),
});

/** avsc's records have a class of their own. */
const plain = (value: object): object => structuredClone({ ...value });

describe('what travels between the services', () => {
  it('carries a block through unchanged', () => {
    fc.assert(
      fc.property(block, (sent) => {
        const got = decodeBlock(encodeBlock(sent));
        expect(Buffer.compare(got.payload, sent.payload)).toBe(0);
        expect(plain({ ...got, payload: null })).toEqual(plain({ ...sent, payload: null }));
      }),
    );
  });

  it('carries partials through unchanged, in parts of less than 1 MiB, however the branches interleave', () => {
    fc.assert(
      fc.property(partial, partial, fc.infiniteStream(fc.boolean()), (a, b, turns) => {
        const first: Partial = { ...a, branch: 'stream' };
        const second: Partial = { ...b, branch: 'batch' };
        const queues = [encodePartial(first), encodePartial(second)] as const;
        const assembler = new PartialAssembler();
        const got: Partial[] = [];
        let at = 0n;
        for (const turn of turns) {
          const message =
            (turn ? queues[0] : queues[1]).shift() ?? queues[0].shift() ?? queues[1].shift();
          if (message === undefined) {
            break;
          }
          expect(message.length).toBeLessThan(1024 * 1024);
          const complete = assembler.add(message, at++);
          if (complete !== null) {
            got.push(complete);
          }
        }
        expect(assembler.openSince).toBeNull();
        expect(got).toHaveLength(2);
        for (const sent of [first, second]) {
          const same = got.find(({ branch }) => branch === sent.branch);
          expect(same && plain(withoutTexts(same))).toEqual(plain(withoutTexts(sent)));
          expect(same?.tables.map(({ text }) => text.length)).toEqual(
            sent.tables.map(({ text }) => text.length),
          );
          expect(
            same?.tables.every(({ text }, i) => text.equals(sent.tables[i]?.text ?? Buffer.of(0))),
          ).toBe(true);
        }
      }),
      { numRuns: 30 },
    );
  });

  it('refuses a partial with a part missing or repeated, and remembers where an open one began', () => {
    const sent = fc.sample(partial, 1)[0] as Partial;
    const text = Buffer.alloc(2_500_000, 97);
    const big: Partial = {
      ...sent,
      tables: [
        { name: 't', hash: 'h', read: 1n, filtered: 0n, aggregated: 1n, dead: 0n, rows: 1n, text },
      ],
    };
    const [one, two, three] = encodePartial(big) as [Buffer, Buffer, Buffer];
    const assembler = new PartialAssembler();
    expect(assembler.add(one, 7n)).toBeNull();
    expect(assembler.openSince).toBe(7n);
    expect(() => assembler.add(three, 9n)).toThrow(ContractError);
    expect(() => assembler.add(one, 10n)).toThrow('only 1 of 3 parts');
    expect(assembler.add(two, 8n)).toBeNull();
    expect(assembler.add(three, 9n)?.tables[0]?.text.length).toBe(text.length);
  });

  it('passes over the rest of a partial in the middle of which reading began, and reads on', () => {
    const [sent, other] = fc.sample(partial, 2) as [Partial, Partial];
    const text = Buffer.alloc(2_500_000, 97);
    const table = {
      name: 't',
      hash: 'h',
      read: 1n,
      filtered: 0n,
      aggregated: 1n,
      dead: 0n,
      rows: 1n,
      text,
    };
    const [, two, three] = encodePartial({ ...sent, branch: 'batch', tables: [table] }) as [
      Buffer,
      Buffer,
      Buffer,
    ];
    const [next] = encodePartial({ ...other, branch: 'batch', tables: [] }) as [Buffer];
    const assembler = new PartialAssembler();
    expect(assembler.add(two, 1n)).toBeNull();
    expect(assembler.add(three, 2n)).toBeNull();
    expect(assembler.openSince).toBeNull();
    expect(assembler.add(next, 3n)?.from).toBe(other.from);
  });

  it('carries telemetry through unchanged, told apart from partials', () => {
    fc.assert(
      fc.property(telemetry, (sent) => {
        const message = encodeTelemetry(sent);
        expect(plain(decodeTelemetry(message))).toEqual(plain(sent));
        expect(isTelemetry(message)).toBe(true);
      }),
    );
    const [message] = encodePartial(fc.sample(partial, 1)[0] as Partial);
    expect(isTelemetry(message as Buffer)).toBe(false);
    expect(() => decodeTelemetry(message as Buffer)).toThrow(ContractError);
  });

  it('keeps messages small however many letters hold next to nothing', () => {
    const letter = {
      offset: 1n,
      timestamp: null,
      table: null,
      code: 'malformed',
      reason: 'It is no JSON.',
      key: null,
      value: Buffer.alloc(0),
      headers: [],
    };
    const messages = encodeDeadLetters({
      source: 's',
      partition: 0,
      letters: Array.from({ length: 50_000 }, () => letter),
    });
    expect(messages.length).toBeGreaterThan(5);
    for (const message of messages) {
      expect(message.length).toBeLessThan(1024 * 1024);
    }
  });

  it('refuses any message in which a bit is flipped or that is cut short', () => {
    fc.assert(
      fc.property(block, fc.nat(), fc.nat({ max: 7 }), (sent, at, bit) => {
        const message = encodeBlock(sent);
        const index = at % message.length;
        message[index] = (message[index] ?? 0) ^ (1 << bit);
        expect(() => decodeBlock(message)).toThrow(ContractError);
        expect(() => decodeBlock(encodeBlock(sent).subarray(0, index))).toThrow(ContractError);
      }),
    );
  });

  it('refuses whatever bytes someone else writes to an internal topic', () => {
    fc.assert(
      fc.property(bytes, (message) => {
        expect(() => decodeBlock(message)).toThrow(ContractError);
        expect(() => decodeDeadLetters(message)).toThrow(ContractError);
        expect(() => new PartialAssembler().add(message, 0n)).toThrow(ContractError);
      }),
    );
  });

  it('keeps the bytes of dead letters, in messages of bounded size', () => {
    const letter = fc.record({
      offset: long,
      timestamp: fc.option(long),
      table: fc.option(fc.string()),
      code: fc.string(),
      reason: fc.string(),
      key: fc.option(bytes),
      value: fc.option(
        fc.oneof(
          bytes,
          fc.nat({ max: 400_000 }).map((size) => Buffer.alloc(size, 1)),
        ),
      ),
      headers: fc.array(fc.record({ name: fc.string(), value: fc.option(bytes) }), {
        maxLength: 3,
      }),
    });
    fc.assert(
      fc.property(fc.array(letter, { maxLength: 8 }), (letters) => {
        const messages = encodeDeadLetters({ source: 's', partition: 1, letters });
        const got = messages.flatMap((message) => decodeDeadLetters(message).letters);
        // Comparing large values element by element would take seconds.
        got.forEach(({ value }, i) => {
          const sent = letters[i]?.value ?? null;
          expect(value === null ? sent === null : sent !== null && value.equals(sent)).toBe(true);
        });
        expect(got.map((one) => plain({ ...one, value: null }))).toEqual(
          letters.map((one) => plain({ ...one, value: null })),
        );
        for (const message of messages) {
          expect(message.length).toBeLessThan(1024 * 1024);
        }
      }),
      { numRuns: 50 },
    );
  });

  it('reads back the positions it commits, and only those', () => {
    fc.assert(
      fc.property(
        fc.bigInt({ min: 0n, max: 2n ** 63n - 1n }),
        fc.option(long),
        fc.boolean(),
        fc.string({ unit: 'binary' }),
        (origin, highest, diverting, instance) => {
          const position = { epoch: 3n, origin, highest, diverting };
          const ingest = encodeIngestPosition(position);
          expect(decodeIngestPosition(ingest)).toEqual(position);
          expect(decodeIngestPosition(withCost(ingest, instance, 'c1;2'))).toEqual(position);
          const processor = encodeProcessorPosition({ epoch: 3n, next: origin });
          expect(decodeProcessorPosition(processor)).toEqual({ epoch: 3n, next: origin });
          const stamped = withCost(processor, instance, 'c1;2');
          expect(decodeProcessorPosition(stamped)).toEqual({ epoch: 3n, next: origin });
          expect([costIn(processor), costIn(stamped)?.cost]).toEqual([null, 'c1;2']);
          expect(decodeURIComponent(costIn(stamped)?.by ?? '')).toBe(instance);
        },
      ),
    );
    // Where there is no epoch.
    expect(encodeProcessorPosition({ epoch: 0n, next: 5n })).toBe('next=5');
    expect(decodeIngestPosition('origin=1 highest=none')).toMatchObject({ epoch: 0n, origin: 1n });
    expect(decodeProcessorPosition('next=5')).toEqual({ epoch: 0n, next: 5n });
    expect(decodeIngestPosition('')).toBeNull();
    expect(decodeProcessorPosition('someone else')).toBeNull();
  });
});
