import type { Processed, SourcePlan } from '@anabranch/compute';
import {
  decodeDeadLetters,
  internalTopics,
  type Partial,
  PartialAssembler,
} from '@anabranch/contract';
import { testBlock } from '@anabranch/contract/testing';
import { Tracer } from '@anabranch/service';
import { expect, it } from 'vitest';
import { openSpans } from './open-spans.ts';
import { type Message, noneProcessed, partialMessages } from './partials.ts';
import { stretchesOf } from './stretch.ts';

const plan = {
  source: { name: 'orders' },
  tables: [{ table: { name: 'clean', hash: 'h1' } }, { table: { name: 'sums', hash: 'h2' } }],
} as unknown as SourcePlan;
const topics = internalTopics('orders');
const spans = Tracer.off.spans('stream.process');
const options = { plan, topics, branch: 'stream', run: () => null, spans } as const;

function partialsOf(messages: readonly Message[]): Partial[] {
  const assemblers = new Map<number, PartialAssembler>();
  return messages
    .filter(({ topic }) => topic === topics.results)
    .flatMap(({ partition, value }) => {
      const assembler = assemblers.get(partition) ?? new PartialAssembler();
      assemblers.set(partition, assembler);
      return assembler.add(value ?? Buffer.alloc(0), 0n) ?? [];
    });
}

const table = (name: string, partition: number, text: string): Processed['tables'][number] => ({
  name,
  partition,
  read: 3,
  filtered: 1,
  aggregated: 2,
  dead: 0,
  rows: 1,
  text: Buffer.from(text),
});

it('each partition gets a partial with its own tables and coverage', () => {
  const stretches = [
    ...stretchesOf(0, [testBlock({ producedAt: 7n }, ['a']), testBlock({ from: 1n }, ['b'])]),
    ...stretchesOf(2, [testBlock({ partition: 2, from: 5n, to: 9n })]),
  ];
  const processed = {
    ...noneProcessed,
    tables: [table('clean', 2, 'two'), table('clean', 0, 'zero'), table('sums', 0, 'sum')],
  };
  const messages = partialMessages(stretches, processed, options);
  expect(messages.map(({ partition }) => partition)).toEqual([0, 2]);
  const [first, second] = partialsOf(messages);
  expect(first).toMatchObject({ partition: 0, from: 0n, to: 2n, producedAt: 7n, branch: 'stream' });
  expect(first?.tables.map(({ name, hash, text }) => [name, hash, text.toString()])).toEqual([
    ['clean', 'h1', 'zero'],
    ['sums', 'h2', 'sum'],
  ]);
  expect(first?.tables[0]).toMatchObject({ read: 3n, filtered: 1n, aggregated: 2n, rows: 1n });
  expect(second).toMatchObject({ partition: 2, from: 5n, to: 9n });
  expect(second?.tables.map(({ text }) => text.toString())).toEqual(['two']);
});

it('a range without a record still moves the frontier', () => {
  const stretches = stretchesOf(0, [testBlock({ from: 4n, to: 8n, watermark: 3n })]);
  expect(partialsOf(partialMessages(stretches, noneProcessed, options))).toMatchObject([
    { from: 4n, to: 8n, watermark: 3n, tables: [] },
  ]);
});

it('the run goes with the first partial only', () => {
  const stretches = [0, 1].flatMap((partition) =>
    stretchesOf(partition, [testBlock({ partition })]),
  );
  const firsts: boolean[] = [];
  const run = (first: boolean): null => {
    firsts.push(first);
    return null;
  };
  partialMessages(stretches, noneProcessed, { ...options, run });
  expect(firsts).toEqual([true, false]);
});

it('a dead letter has the bytes that were produced, wherever its block lies among others', () => {
  const altered = [
    { record: 0, byteOrderMark: true, lineFeeds: [] },
    { record: 3, byteOrderMark: false, lineFeeds: [1] },
  ];
  const runs = [
    { start: 10n, count: 2 },
    { start: 15n, count: 2 },
  ];
  const stretches = stretchesOf(0, [
    testBlock({ from: 0n, to: 10n, altered: [{ record: 0, byteOrderMark: true, lineFeeds: [] }] }),
    { ...testBlock({ from: 10n, to: 20n, altered }), runs },
    testBlock({ from: 20n }, ['plain']),
  ]);
  const letter = (offset: bigint, text: string | null) => ({
    partition: 0,
    offset,
    table: 'clean',
    code: 'expression',
    detail: 'Overflow.',
    text: text === null ? null : Buffer.from(text),
  });
  const processed = {
    ...noneProcessed,
    deadLetters: [
      letter(10n, 'a'),
      letter(11n, 'b'),
      letter(16n, '{\r}'),
      letter(20n, 'plain'),
      letter(21n, null),
      { ...letter(10n, 'other'), partition: 1 },
    ],
  };
  const messages = partialMessages(stretches, processed, options);
  const letters = messages
    .filter(({ topic }) => topic === topics.dead)
    .flatMap(({ value }) => decodeDeadLetters(value ?? Buffer.alloc(0)).letters);
  expect(letters.map(({ offset, value }) => [offset, value?.toString()])).toEqual([
    [10n, '\u{FEFF}a'],
    [11n, 'b'],
    [16n, '{\n}'],
    [20n, 'plain'],
    [21n, undefined],
  ]);
  expect(letters[0]).toMatchObject({ table: 'clean', code: 'expression', reason: 'Overflow.' });
});

it('each message of a partial carries its trace, and none carries a header without one', async () => {
  const traced = {
    ...testBlock({}, ['a']),
    trace: '00-0123456789abcdef0123456789abcdef-0123456789abcdef-01',
  };
  const stretches = [...stretchesOf(0, [traced]), ...stretchesOf(1, [testBlock({ partition: 1 })])];
  const big = { ...table('clean', 0, 'x'.repeat(2_500_000)) };
  const tracer = new Tracer({ add: () => undefined, close: () => Promise.resolve() }, 1);
  const own = tracer.spans('stream.process');
  await own.during(() => {
    openSpans(own, 'stream', stretches);
    return Promise.resolve();
  });
  const processed = { ...noneProcessed, tables: [big] };
  const messages = partialMessages(stretches, processed, { ...options, spans: own });
  const traceparent = own.traceparent(stretches[0] ?? {});
  expect(traceparent).toMatch(/^00-0123456789abcdef0123456789abcdef-[0-9a-f]{16}-01$/);
  expect(messages.filter(({ partition }) => partition === 0).map(({ headers }) => headers)).toEqual(
    Array.from({ length: 3 }, () => ({ traceparent })),
  );
  expect(
    messages.filter(({ partition }) => partition === 1).map((one) => 'headers' in one),
  ).toEqual([false]);
  for (const { headers } of partialMessages(stretches, processed, { ...options, spans })) {
    expect(headers).toBeUndefined();
  }
});
