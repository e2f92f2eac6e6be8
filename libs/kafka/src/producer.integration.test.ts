import { afterAll, beforeAll, expect, it } from 'vitest';
import type { Kafka } from './kafka.ts';
import type { Producer } from './producer.ts';
import { connectForTest, createTopic, settledContents } from './testing.ts';

let kafka: Kafka;
let producer: Producer;

beforeAll(async () => {
  kafka = await connectForTest();
  producer = kafka.producer();
});

afterAll(async () => {
  await producer.close();
  await kafka.close();
});

it('sends to a partition that was added after its first send, and each message once', async () => {
  const topic = await createTopic(kafka, 'growing', 1);
  await producer.send(topic, [{ partition: 0, value: 'a' }]);
  await kafka.admin.createPartitions(topic, 3);
  await producer.send(topic, [
    { partition: 0, value: 'b' },
    { partition: 2, value: 'c' },
    { partition: 0, value: 'd' },
    { partition: 1, value: 'e' },
  ]);
  expect(await settledContents(kafka, topic, 5)).toEqual(['0:a', '0:b', '0:d', '1:e', '2:c']);
});

it('says so when a partition does not exist, and has sent the rest', async () => {
  const topic = await createTopic(kafka, 'short', 1);
  await expect(
    producer.send(topic, [
      { partition: 0, value: 'a' },
      { partition: 7, value: 'b' },
    ]),
  ).rejects.toMatchObject({
    code: 'SEND_INCOMPLETE',
    message: expect.stringContaining(`${topic}/7`) as string,
  });
  // It goes on afterwards.
  await producer.send(topic, [{ value: 'c' }]);
  expect(await settledContents(kafka, topic, 2)).toEqual(['0:a', '0:c']);
});
