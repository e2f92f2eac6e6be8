import { internalTopics } from '@anabranch/contract';
import type { ServiceProcess } from '@anabranch/servers';
import { expect, test } from 'vitest';
import { acceptLoss, argumentsOf, type MissingRange, missingRanges } from './accept-loss.ts';
import { type Chain, openChain } from './chain.ts';
import { eventsDefinition } from './events.ts';
import { expectEvents, expectEventTables } from './events-oracle.ts';
import { RecordGenerator } from './records.ts';

const partitions = 3;
const reason = ['--reason', 'retention of the test', '--by', 'the operator'];

/** Waits until a service has halted partition 1 of a topic, and no other. @returns the reason */
async function halted(chain: Chain, service: ServiceProcess, topic: string): Promise<string> {
  return chain.eventually(`${service.service} to halt a partition`, async () => {
    const { details } = await service.readiness();
    const { halted: all = [] } = (details as Details).details?.[chain.source] ?? {};
    if (all.length === 0) {
      return undefined;
    }
    expect(all.map(({ partition }) => partition)).toEqual(all.map(() => 1));
    return all.find((one) => one.topic === topic)?.reason;
  });
}

interface Details {
  readonly details?: Record<
    string,
    { halted?: { topic: string; partition: number; reason: string }[] }
  >;
}

/** Waits until all that was produced is applied: `settled` would wait for dead letters that are lost. */
function applied(chain: Chain): Promise<void> {
  return frontiersAtEnd(chain, 'all records to be applied', () => true);
}

/** Waits until the other partitions have applied all that was produced. */
function neighboursApplied(chain: Chain): Promise<void> {
  return frontiersAtEnd(chain, 'the other partitions to go on', (partition) => partition !== 1);
}

async function frontiersAtEnd(
  chain: Chain,
  what: string,
  concerns: (partition: number) => boolean,
): Promise<void> {
  const ends = new Map(chain.produced.map(({ partition, offset }) => [partition, offset + 1n]));
  await chain.eventually(what, async () => {
    const behind = (await chain.frontiers()).filter(
      ({ partition, next }) => concerns(partition) && next < (ends.get(partition) ?? 0n),
    );
    return behind.length === 0 ? true : undefined;
  });
}

/** Waits until a processor has committed all that was produced. */
async function processed(chain: Chain, branch: 'stream' | 'batch'): Promise<void> {
  const ends = new Map(chain.produced.map(({ partition, offset }) => [partition, offset + 1n]));
  const group = `anabranch.${branch}-processor.${chain.source}`;
  await chain.eventually(`the ${branch}-processor to be through`, async () => {
    const committed = await chain.kafka.admin.committed(group, [
      internalTopics(chain.topic)[branch],
    ]);
    const through = committed.filter(
      ({ partition, metadata }) =>
        BigInt(/next=(\d+)/.exec(metadata)?.[1] ?? 0) >= (ends.get(partition) ?? 0n),
    );
    return through.length === partitions ? true : undefined;
  });
}

/** Deletes half of what a reader at `next` has in front of it in partition 1, as retention would. */
async function deleteHalf(chain: Chain, topic: string, next: bigint): Promise<bigint> {
  const end = (await chain.kafka.admin.offsets(topic)).find(({ partition }) => partition === 1);
  const before = next + ((end?.latest ?? 0n) - next) / 2n;
  expect(before, 'something to delete').toBeGreaterThan(next);
  await chain.kafka.admin.deleteRecords(topic, 1, before);
  return before;
}

/** What is refused changes nothing: the range must be exactly what is missing, and a reason be given. */
async function expectRefusals(chain: Chain, range: MissingRange): Promise<void> {
  for (const wrong of [
    { ...range, to: range.to - 1n },
    { ...range, from: range.from - 1n },
    { ...range, partition: 0 },
    { ...range, branch: range.branch === 'batch' ? 'stream' : 'batch', from: range.from + 1n },
  ]) {
    const { code, text } = await acceptLoss(chain, ...argumentsOf(wrong), ...reason);
    expect({ code, refused: text.includes('Refused') }, `answered: ${text}`).toEqual({
      code: 64,
      refused: true,
    });
  }
  const { code } = await acceptLoss(chain, ...argumentsOf(range), '--reason', ' ');
  expect(code).toBe(64);
  expect(await chain.query('SELECT * FROM anabranch.losses')).toEqual([]);
}

async function accept(chain: Chain, ranges: readonly MissingRange[]): Promise<void> {
  for (const range of ranges) {
    const { code, text } = await acceptLoss(chain, ...argumentsOf(range), ...reason);
    expect({ code }, `answered: ${text}`).toEqual({ code: 0 });
    // Once more, as after a failure on the way.
    expect(await acceptLoss(chain, ...argumentsOf(range), ...reason)).toMatchObject({ code: 0 });
  }
}

/** The ledger says of each range what is lost, and the balance holds with it. */
async function expectLosses(
  chain: Chain,
  ranges: readonly MissingRange[],
  kind: string,
): Promise<void> {
  expect(
    await chain.query(
      'SELECT partition, branch, from_offset, to_offset, kind, reason, accepted_by FROM anabranch.losses ORDER BY id',
    ),
  ).toEqual(
    ranges.map(({ partition, branch, from, to }) => ({
      partition,
      branch,
      from_offset: String(from),
      to_offset: String(to),
      kind: branch === 'dead' ? 'dead letters' : kind,
      reason: 'retention of the test',
      accepted_by: 'the operator',
    })),
  );
  const tiles = ranges.flatMap(({ partition, branch, from, to }) =>
    (branch === 'both' ? ['batch', 'stream'] : branch === 'dead' ? [] : [branch]).map((each) => ({
      partition,
      branch: each,
      from_offset: String(from),
      to_offset: String(to),
      records: '0',
    })),
  );
  expect(
    await chain.query(
      `SELECT partition, branch, from_offset, to_offset, stream_records + batch_records + dead_records AS records
       FROM anabranch.ledger WHERE definition = 'accepted-loss' ORDER BY partition, branch, from_offset`,
    ),
  ).toEqual(tiles.toSorted((a, b) => (a.branch < b.branch ? -1 : 1)));
  expect(await chain.query('SELECT * FROM anabranch.ledger_faults')).toEqual([]);
  expect(await chain.query('SELECT * FROM anabranch.conflicts')).toEqual([]);
}

/** No window says that it is final though a record of it is lost, but for records that were late. */
async function expectIncomplete(chain: Chain): Promise<void> {
  const touched = await chain.query<{ status: string }>(
    `SELECT DISTINCT w.status FROM per_minute w
     JOIN oracle.lost l ON l.event_time >= w.window_start AND l.event_time < w.window_end
     WHERE coalesce(l.late_by, '0') <= '0'`,
  );
  expect(touched).toEqual([{ status: 'incomplete' }]);
  const all = await chain.query<{ status: string }>('SELECT DISTINCT status FROM per_minute');
  expect(all.map(({ status }) => status)).toContain('final');
}

test('records that retention deleted before ingest read them halt their partition alone, until the loss is accepted', async () => {
  const chain = await openChain({ define: eventsDefinition, partitions });
  const services = chain.startAll();
  const generator = new RecordGenerator(21, partitions, 200);
  await chain.produce(generator.take(2000));
  await chain.settled();
  await chain.stop(services.ingest);
  const [committed] = (
    await chain.kafka.admin.committed(`anabranch.ingest.${chain.source}`, [chain.topic])
  ).filter(({ partition }) => partition === 1);
  const from = committed?.offset ?? 0n;
  await chain.produce(generator.take(2000));
  const to = await deleteHalf(chain, chain.topic, from);

  const ingest = chain.start('ingest');
  expect(await halted(chain, ingest, chain.topic)).toContain(
    `offsets ${from} to ${to} were deleted`,
  );
  await neighboursApplied(chain);
  const missing = await missingRanges(chain);
  const range = { partition: 1, branch: 'both', from, to };
  expect(missing).toEqual([range]);
  await expectRefusals(chain, range);

  await accept(chain, missing);
  await chain.produce(generator.closing());
  await chain.settled();
  await expectLosses(chain, missing, 'records');
  const lost = chain.produced.filter(
    ({ partition, offset }) => partition === 1 && offset >= from && offset < to,
  );
  await expectEvents({
    source: chain.source,
    query: (text, values) => chain.query(text, values),
    produced: chain.produced.filter((record) => !lost.includes(record)),
  });
  const balance = await chain.query('SELECT DISTINCT lost FROM anabranch.balance');
  expect(balance).toEqual([{ lost: String(to - from) }]);
  const statuses = await chain.query<{ status: string }>('SELECT DISTINCT status FROM per_minute');
  expect(statuses.map(({ status }) => status)).toContain('incomplete');
});

test('partials and dead letters that retention deleted before fusion read them halt their partition alone, until the loss is accepted', async () => {
  const chain = await openChain({ define: eventsDefinition, partitions });
  const services = chain.startAll();
  const generator = new RecordGenerator(22, partitions, 200);
  await chain.produce(generator.take(3000));
  await chain.settled();
  await chain.stop(services.fusion);
  for (let sends = 0; sends < 6; sends++) {
    await chain.produce(generator.take(500));
    await processed(chain, 'stream');
  }
  await processed(chain, 'batch');
  const { results, dead } = internalTopics(chain.topic);
  for (const topic of [results, dead]) {
    const [position] = await chain.query<{ next: string }>(
      'SELECT next_offset AS next FROM anabranch.positions WHERE topic = $1 AND partition = 1',
      [topic],
    );
    await deleteHalf(chain, topic, BigInt(position?.next ?? 0));
  }

  const fusion = chain.start('fusion');
  for (const topic of [results, dead]) {
    expect(await halted(chain, fusion, topic)).toContain('were deleted before they were read');
  }
  await neighboursApplied(chain);
  const missing = await missingRanges(chain);
  expect(missing.map(({ branch }) => branch)).toContain('dead');
  expect(missing.length).toBeGreaterThan(1);
  expect(missing.every(({ partition }) => partition === 1)).toBe(true);
  await expectRefusals(chain, missing[0]!);

  await accept(chain, missing);
  await chain.produce(generator.closing());
  await applied(chain);
  await expectLosses(chain, missing, 'partials');
  await expectWithout(chain, missing);
  await expectIncomplete(chain);
});

test('blocks that retention deleted before the stream-processor read them halt their partition alone, until the loss is accepted', async () => {
  const chain = await openChain({ define: eventsDefinition, partitions });
  const services = chain.startAll();
  const generator = new RecordGenerator(23, partitions, 200);
  await chain.produce(generator.take(3000));
  await chain.settled();
  await chain.stop(services['stream-processor']);
  const { stream } = internalTopics(chain.topic);
  const [committed] = (
    await chain.kafka.admin.committed(`anabranch.stream-processor.${chain.source}`, [stream])
  ).filter(({ partition }) => partition === 1);
  for (let sends = 0; sends < 6; sends++) {
    await chain.produce(generator.take(500));
    await processed(chain, 'batch');
  }
  await deleteHalf(chain, stream, committed?.offset ?? 0n);

  const processor = chain.start('stream-processor');
  expect(await halted(chain, processor, stream)).toContain('were deleted before they were read');
  await neighboursApplied(chain);
  const missing = await missingRanges(chain);
  expect(missing).toMatchObject([{ partition: 1, branch: 'stream' }]);
  await expectRefusals(chain, missing[0]!);

  await accept(chain, missing);
  await chain.produce(generator.closing());
  await applied(chain);
  await expectLosses(chain, missing, 'blocks');
  await expectWithout(chain, missing);
  await expectIncomplete(chain);
  // The batch branch knows how many records the range had.
  const [lost] = await chain.query<{ lost: string }>('SELECT count(*) AS lost FROM oracle.lost');
  expect(await chain.query('SELECT DISTINCT lost FROM anabranch.balance')).toEqual([lost]);
});

/** The tables say what they would without the lost records, and the balance holds. */
async function expectWithout(chain: Chain, ranges: readonly MissingRange[]): Promise<void> {
  const records = ranges.filter(({ branch }) => branch !== 'dead');
  const conditions = records.map(
    ({ partition, branch, from, to }) =>
      `partition = ${partition} AND ${branch}_records = 1 AND record_offset >= ${from} AND record_offset < ${to}`,
  );
  await expectEventTables(chain, undefined, conditions.map((each) => `(${each})`).join(' OR '));
  const [lost] = await chain.query<{ lost: string }>('SELECT count(*) AS lost FROM oracle.lost');
  expect(Number(lost?.lost)).toBeGreaterThan(0);
  const balance = await chain.query<Record<string, string>>('SELECT * FROM anabranch.balance');
  for (const { table_name: table, outstanding, lost: counted } of balance) {
    expect({ table, outstanding }).toEqual({ table, outstanding: '0' });
    expect(Number(counted)).toBeGreaterThanOrEqual(Number(lost?.lost));
  }
}

test('a source topic that was created anew is told apart from a loss, and halts only what had been read', async () => {
  const chain = await openChain({ define: eventsDefinition, partitions });
  const services = chain.startAll();
  // The others are empty, so nothing contradicts their offsets.
  const generator = new RecordGenerator(24, partitions, 200);
  const records = generator.take(900);
  await chain.produce(records.filter(({ partition }) => partition === 1));
  await chain.settled();
  await chain.stop(services.ingest);
  await chain.kafka.admin.deleteTopics([chain.topic]);
  await chain.eventually('the topic to be gone', async () =>
    (await chain.kafka.admin.describeTopic(chain.topic)) === null ? true : undefined,
  );
  await chain.createTopic();
  const before = await chain.frontiers();
  await chain.kafka.producer().send(chain.topic, records);
  chain.start('ingest');
  const { stream, batch } = internalTopics(chain.topic);
  for (const [name, topic] of [
    ['stream-processor', stream],
    ['batch-processor', batch],
  ] as const) {
    expect(await halted(chain, services[name], topic)).toContain(
      'ingest has begun anew at source offset 0',
    );
  }
  const answer = await acceptLoss(chain);
  expect(answer.text).toContain('ingest has begun anew');
  expect(await missingRanges(chain)).toEqual([]);
  expect((await chain.frontiers()).filter(({ partition }) => partition === 1)).toEqual(before);
});
