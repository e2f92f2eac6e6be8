import { expect, test } from 'vitest';
import { openChain } from './chain.ts';
import { eventsDefinition } from './events.ts';
import { expectEvents } from './events-oracle.ts';
import { RecordGenerator } from './records.ts';

const partitions = 4;
const count = 200_000;
const chunk = 1000;

test('200,000 records of every kind: each row, decimal and count is what plain SQL says', async () => {
  const chain = await openChain({ define: eventsDefinition, partitions });
  const services = chain.startAll();
  const generator = new RecordGenerator(1, partitions);
  for (let sent = 0; sent < count; sent += chunk) {
    const records = generator.take(chunk);
    if ((sent / chunk) % 20 === 10) {
      await chain.produceAborted(generator.take(50), generator.take(50));
      await chain.produceInTransaction(records);
    } else {
      await chain.produce(records);
    }
  }
  await chain.produce(generator.closing());
  await chain.produce([generator.farFuture(1), generator.farFuture(3)]);
  await chain.settled();
  await expectEvents(chain);
  expect(Object.values(services).every(({ isRunning }) => isRunning)).toBe(true);
});
