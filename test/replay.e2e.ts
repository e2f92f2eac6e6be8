import { encodePartial, internalTopics, isTelemetry, PartialAssembler } from '@anabranch/contract';
import { expect, test } from 'vitest';
import { openChain } from './chain.ts';
import { eventsDefinition } from './events.ts';
import { expectEvents } from './events-oracle.ts';
import { RecordGenerator } from './records.ts';

test('blocks and partials that come again change nothing; a gap halts its partition, and no other', async () => {
  const partitions = 3;
  const chain = await openChain({ define: eventsDefinition, partitions });
  chain.startAll();
  const generator = new RecordGenerator(5, partitions, 200);
  await chain.produce(generator.take(4000));
  await chain.produceAborted(generator.take(30), generator.take(30));
  await chain.settled();

  const { stream, batch, results } = internalTopics(chain.topic);
  const producer = chain.kafka.producer();
  for (const topic of [stream, batch, results]) {
    const messages: { partition: number; value: Buffer }[] = [];
    await chain.kafka.readTopic(topic, (partition, { value }) => {
      messages.push({ partition, value: value ?? Buffer.alloc(0) });
    });
    expect(messages.length, `messages in ${topic}`).toBeGreaterThan(0);
    await producer.send(topic, messages);
  }
  await chain.produce(generator.take(1000));
  await chain.produce(generator.closing());
  await chain.settled();
  await expectEvents(chain);

  // What comes behind this partial's end would be lost if the range in front of it were skipped.
  const assembler = new PartialAssembler();
  let offset = 0n;
  const last = { partition: -1, partial: null as ReturnType<PartialAssembler['add']> };
  await chain.kafka.readTopic(results, (partition, { value }) => {
    if (partition === 0 && value !== null && !isTelemetry(value)) {
      last.partial = assembler.add(value, offset++) ?? last.partial;
    }
  });
  expect(last.partial).not.toBeNull();
  if (last.partial !== null) {
    const [frontier] = (await chain.frontiers()).filter(
      ({ partition, branch }) => partition === 0 && branch === 'stream',
    );
    const from = (frontier?.next ?? 0n) + 5n;
    for (const value of encodePartial({
      ...last.partial,
      branch: 'stream',
      from,
      to: from + 5n,
      run: null,
    })) {
      await producer.send(results, [{ partition: 0, value }]);
    }
  }
  await producer.close();
  await chain.eventually('the gap to be reported', async () => {
    const conflicts = await chain.query(
      `SELECT partition, branch, verdict FROM anabranch.conflicts`,
    );
    return conflicts.length > 0
      ? (expect(conflicts).toEqual([{ partition: 0, branch: 'stream', verdict: 'gap' }]) ?? true)
      : undefined;
  });
  const before = await chain.frontiers();
  const next = (partition: number): bigint[] =>
    before.filter((frontier) => frontier.partition === partition).map((frontier) => frontier.next);
  await chain.produce(generator.take(600));
  await chain.eventually('the other partitions to go on', async () => {
    const now = await chain.frontiers();
    const moved = (partition: number): boolean =>
      now.some(
        (f) =>
          f.partition === partition && f.branch === 'stream' && f.next > (next(partition)[0] ?? 0n),
      );
    return moved(1) && moved(2) ? true : undefined;
  });
  const now = await chain.frontiers();
  expect(now.filter(({ partition }) => partition === 0)).toEqual(
    before.filter(({ partition }) => partition === 0),
  );
});
