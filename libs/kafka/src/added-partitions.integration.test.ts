import { afterAll, beforeAll, expect, it } from 'vitest';
import type { Kafka } from './kafka.ts';
import { loopOptions } from './step-fixtures.ts';
import type { StepLoop } from './step-loop.ts';
import { connectForTest, createTopic, uniqueName, until } from './testing.ts';

let kafka: Kafka;
beforeAll(async () => {
  kafka = await connectForTest();
});
afterAll(() => kafka.close());

const partitionsOf = (loop: StepLoop): number[] =>
  loop
    .state()
    .partitions.map(({ partition }) => partition)
    .toSorted((a, b) => a - b);

it('an instance that comes back finds the partitions that were added while it was away', async () => {
  const topic = await createTopic(kafka, 'grown', 2);
  const options = loopOptions({ groupId: uniqueName('grown'), topics: [topic], step: () => null });
  // This one doesn't look for partitions meanwhile, and it is replaced as by a process of its name that
  // comes back after a crash: it doesn't leave the group.
  const before = kafka.stepLoop({ ...options, metadataMaxAge: 600_000 });
  before.start();
  const after = kafka.stepLoop(options);
  try {
    await until('the partitions are assigned', () => partitionsOf(before).length === 2);
    const { generation } = before.state();
    await kafka.admin.createPartitions(topic, 3);
    after.start();
    await until('it has the added one', () => partitionsOf(after).length === 3);
    expect(partitionsOf(after)).toEqual([0, 1, 2]);
    // Else it would prove nothing: at first it had the place of the other one, without a rebalance.
    expect(after.state().generation).toBe(generation + 1);
  } finally {
    await Promise.all([before.stop(5_000), after.stop(5_000)]);
  }
});
