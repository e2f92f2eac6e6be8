import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { errorKind } from './error-kind.ts';
import type { Kafka } from './kafka.ts';
import { createClient } from './patched-kafkajs.ts';
import {
  connectForTest,
  contents,
  createTopic,
  settledContents,
  testConfig,
  uniqueName,
  until,
} from './testing.ts';
import type { GroupMembership } from './transactional-producer.ts';

let kafka: Kafka;
beforeAll(async () => {
  kafka = await connectForTest();
});
afterAll(() => kafka.close());

/** With ten records in each partition: a consumer crashes on offsets that don't exist. */
async function filledTopic(partitions: number): Promise<string> {
  const topic = await createTopic(kafka, 'source', partitions);
  const producer = kafka.producer();
  const messages = Array.from({ length: 10 * partitions }, (_, index) => ({
    partition: index % partitions,
    value: `${index}`,
  }));
  await producer.send(topic, messages);
  await producer.close();
  return topic;
}

interface Member {
  /** As of the newest generation. */
  membership(): GroupMembership;
  leave(): Promise<void>;
}

async function join(groupId: string, topic: string): Promise<Member> {
  const consumer = createClient(testConfig(), { retries: 5 }).consumer({
    groupId,
    maxWaitTimeInMs: 50,
    heartbeatInterval: 100,
  });
  let newest: GroupMembership | undefined;
  consumer.on(consumer.events.GROUP_JOIN, ({ payload: { generationId, memberId } }) => {
    newest = { groupId, generation: generationId, memberId };
  });
  await consumer.connect();
  await consumer.subscribe({ topics: [topic], fromBeginning: true });
  await consumer.run({ autoCommit: false, eachBatch: () => Promise.resolve() });
  await until('a member joins', () => newest !== undefined);
  return { membership: () => newest!, leave: () => consumer.disconnect() };
}

describe('offsets in a transaction', () => {
  it('are refused from a former generation, and its output stays invisible', async () => {
    const source = await filledTopic(2);
    const target = await createTopic(kafka, 'target', 1);
    const group = uniqueName('group');
    const producer = await kafka.transactionalProducer({ transactionalId: `${group}.one` });
    const zombie = await join(group, source);
    const former = zombie.membership();
    const messages = [{ topic: target, partition: 0, value: Buffer.from('first') }];
    const offset = { topic: source, partition: 0, metadata: 'watermark=1' };
    await producer.commit(messages, [{ ...offset, offset: 3n }], former);

    const other = await join(group, source);
    await until('both know the new generation', () =>
      [zombie, other].every((m) => m.membership().generation > former.generation),
    );
    const late = producer.commit(
      [{ topic: target, partition: 0, value: Buffer.from('zombie') }],
      [{ ...offset, offset: 9n }],
      former,
    );
    await expect(late.catch(errorKind)).resolves.toBe('generation');
    expect(producer.broken).toBe(true);
    await producer.close();

    const next = await kafka.transactionalProducer({ transactionalId: `${group}.one` });
    await next.commit(
      [{ topic: target, partition: 0, value: Buffer.from('second') }],
      [{ ...offset, offset: 4n }],
      other.membership(),
    );
    expect(await kafka.admin.committed(group, [source])).toEqual([{ ...offset, offset: 4n }]);
    expect(await settledContents(kafka, target, 2)).toEqual(['0:first', '0:second']);
    await Promise.all([zombie.leave(), other.leave(), next.close()]);
  });

  it('are waited for while their commit is pending', async () => {
    const source = await filledTopic(1);
    const group = uniqueName('group');
    const producer = await kafka.transactionalProducer({ transactionalId: `${group}.one` });
    const member = await join(group, source);
    const offset = { topic: source, partition: 0, metadata: '' };
    await producer.commit([], [{ ...offset, offset: 1n }], member.membership());

    const pending = await producer.begin();
    await pending.sendOffsets([{ ...offset, offset: 2n }], member.membership());
    let ended = false;
    const looked = kafka.admin.committed(group, [source]).then((found) => ({ found, ended }));
    // Enough round trips for an answer that doesn't wait to be here first.
    for (let trip = 0; trip < 20; trip++) {
      await kafka.admin.offsets(source);
    }
    ended = true;
    await pending.commit();
    expect(await looked).toEqual({ found: [{ ...offset, offset: 2n }], ended: true });
    await Promise.all([member.leave(), producer.close()]);
  });

  it('of a producer that vanished are dropped as soon as its successor opens', async () => {
    const source = await filledTopic(1);
    const target = await createTopic(kafka, 'target', 1);
    const group = uniqueName('group');
    const transactionalId = `${group}.one`;
    const producer = await kafka.transactionalProducer({ transactionalId });
    const member = await join(group, source);
    const offset = { topic: source, partition: 0, metadata: '' };
    await producer.commit([], [{ ...offset, offset: 1n }], member.membership());
    const left = await producer.begin();
    await left.send([{ topic: target, partition: 0, value: Buffer.from('lost') }]);
    await left.sendOffsets([{ ...offset, offset: 2n }], member.membership());

    const successor = await kafka.transactionalProducer({ transactionalId });
    expect(await kafka.admin.committed(group, [source])).toEqual([{ ...offset, offset: 1n }]);
    await expect(left.commit().catch(errorKind)).resolves.toBe('fenced');
    expect(await contents(kafka, target)).toEqual([]);
    await Promise.all([member.leave(), producer.close(), successor.close()]);
  });
});

describe('a transaction', () => {
  it('is acknowledged and written, one right after the other', async () => {
    const topic = await createTopic(kafka, 'many', 3);
    const producer = await kafka.transactionalProducer({ transactionalId: uniqueName('writer') });
    const expected: string[] = [];
    for (let index = 0; index < 30; index++) {
      const partition = index % 3;
      expected.push(`${partition}:${index}`);
      await producer.commit([{ topic, partition, value: Buffer.from(`${index}`) }], [], null);
    }
    await producer.close();
    expect((await settledContents(kafka, topic, expected.length)).toSorted()).toEqual(
      expected.toSorted(),
    );
  });

  it('may be larger than a batch and a send', async () => {
    const topic = await createTopic(kafka, 'large', 2);
    const producer = await kafka.transactionalProducer({ transactionalId: uniqueName('writer') });
    const messages = Array.from({ length: 40 }, (_, index) => ({
      topic,
      partition: index % 2,
      value: Buffer.alloc(600_000, index),
    }));
    await producer.commit(messages, [], null);
    await producer.close();
    const sizes: number[] = [];
    await kafka.readTopic(topic, (_, { value }) => sizes.push(value!.length));
    expect(sizes).toEqual(messages.map(({ value }) => value.length));
  });

  it('fails as a whole, and says why, when a message is larger than its topic allows', async () => {
    const topic = await createTopic(kafka, 'small', 1);
    const producer = await kafka.transactionalProducer({ transactionalId: uniqueName('writer') });
    const messages = [Buffer.from('fits'), Buffer.alloc(2_000_000)].map((value) => ({
      topic,
      partition: 0,
      value,
    }));
    await expect(producer.commit(messages, [], null)).rejects.toMatchObject({
      code: 'MESSAGE_TOO_LARGE',
      topic,
    });
    await producer.close();
  });

  it('does not report success for a partition that the producer has not heard of', async () => {
    const topic = await createTopic(kafka, 'grown', 1);
    const producer = await kafka.transactionalProducer({ transactionalId: uniqueName('writer') });
    await producer.commit([{ topic, partition: 0, value: Buffer.from('a') }], [], null);
    await kafka.admin.createPartitions(topic, 2);
    const late = producer.commit([{ topic, partition: 1, value: Buffer.from('b') }], [], null);
    await expect(late).rejects.toMatchObject({ code: 'SEND_INCOMPLETE' });
    await producer.close();
  });
});
