import { afterAll, afterEach, beforeAll, expect, it, vi } from 'vitest';
import type { Kafka } from './kafka.ts';
import { createClient } from './patched-kafkajs.ts';
import { loopOptions } from './step-fixtures.ts';
import { connectForTest, createTopic, testConfig, uniqueName, until } from './testing.ts';

/** Tests wait less than this, so none of what they wait for can come about by waiting. */
const hour = 3_600_000;

let kafka: Kafka;
beforeAll(async () => {
  kafka = await connectForTest();
});
afterEach(() => {
  vi.restoreAllMocks();
});
afterAll(() => kafka.close());

function setBack(): void {
  const real = Date.now.bind(Date);
  vi.spyOn(Date, 'now').mockImplementation(() => real() - hour);
}

it('a member of a group goes on with its heartbeats when the clock is set back by an hour', async () => {
  const topic = await createTopic(kafka, 'clock', 1);
  const consumer = createClient(testConfig(), { retries: 5 }).consumer({
    groupId: uniqueName('clock'),
    maxWaitTimeInMs: 50,
    heartbeatInterval: 100,
  });
  let heartbeats = 0;
  consumer.on(consumer.events.HEARTBEAT, () => heartbeats++);
  await consumer.connect();
  await consumer.subscribe({ topics: [topic], fromBeginning: true });
  await consumer.run({ autoCommit: false, eachBatch: () => Promise.resolve() });
  try {
    await until('the first heartbeats', () => heartbeats > 2);
    setBack();
    const before = heartbeats;
    await until('more heartbeats', () => heartbeats > before + 2);
  } finally {
    await consumer.disconnect();
  }
});

it('steps without work go on when the clock is set back by an hour', async () => {
  const topic = await createTopic(kafka, 'clock', 1);
  let steps = 0;
  const loop = kafka.stepLoop(
    loopOptions({
      groupId: uniqueName('clock'),
      topics: [topic],
      idleMilliseconds: 50,
      step: () => {
        steps++;
        return null;
      },
    }),
  );
  loop.start();
  try {
    await until('the first steps', () => steps > 2);
    setBack();
    const before = steps;
    await until('more steps', () => steps > before + 2);
    expect(loop.state().fatal).toBeNull();
  } finally {
    await loop.stop(5_000);
  }
});
