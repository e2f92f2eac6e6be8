import { expect, test } from 'vitest';
import { openChain } from './chain.ts';
import { eventsDefinition } from './events.ts';
import { expectEvents } from './events-oracle.ts';
import { RecordGenerator } from './records.ts';

test('a source topic that does not exist yet is waited for, and a partition added to it is picked up', async () => {
  const chain = await openChain({ define: eventsDefinition, partitions: 2, createTopic: false });
  const { promise: waiting, resolve: isWaiting } = Promise.withResolvers<void>();
  const ingest = chain.start('ingest', 'a', {
    onLog: ({ level, message, topic }) => {
      if (level === 'warn' && message.includes('does not exist yet') && topic === chain.topic) {
        isWaiting();
      }
    },
  });
  const others = (['stream-processor', 'batch-processor', 'fusion'] as const).map((name) =>
    chain.start(name),
  );
  await waiting;
  expect(await ingest.readiness()).toMatchObject({ ok: false });

  await chain.createTopic();
  await chain.ready([ingest, ...others]);
  await chain.produce(new RecordGenerator(8, 2, 200).take(2000));
  await chain.settled();

  await chain.addPartitions(3);
  const generator = new RecordGenerator(9, 3, 200);
  await chain.produce(generator.take(2000));
  await chain.produce(generator.closing());
  await chain.settled();
  expect((await chain.frontiers()).map(({ partition }) => partition)).toEqual([0, 0, 1, 1, 2, 2]);
  await expectEvents(chain);
});

test('windows become final though no record comes any more', async () => {
  const define: typeof eventsDefinition = (source, topic) => {
    const files = eventsDefinition(source, topic);
    const yaml = files['anabranch.yaml'].replace('idle_timeout: never', 'idle_timeout: 1s');
    return { ...files, 'anabranch.yaml': yaml };
  };
  const chain = await openChain({ define, partitions: 2 });
  chain.startAll();
  await chain.produce(new RecordGenerator(10, 2).take(100));
  await chain.settled();
  const statuses = await chain.eventually('all windows to be final', async () => {
    const rows = await chain.query<{ status: string }>('SELECT DISTINCT status FROM per_hour');
    return rows.some(({ status }) => status === 'provisional') ? undefined : rows;
  });
  expect(statuses.map(({ status }) => status)).toContain('final');
});
