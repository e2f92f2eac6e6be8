import { internalTopics } from '@anabranch/contract';
import type { Chain } from '../../chain.ts';
import type { Fault } from '../field.ts';

async function repeatLast(chain: Chain, topic: string, most: number): Promise<void> {
  const messages: { partition: number; value: Buffer }[] = [];
  await again(chain, () => {
    messages.length = 0;
    return chain.kafka.readTopic(topic, (partition, { value }) => {
      messages.push({ partition, value: value ?? Buffer.alloc(0) });
    });
  });
  const producer = chain.kafka.producer();
  const some = messages.slice(-most);
  if (some.length > 0) {
    await again(chain, () => producer.send(topic, some));
  }
  await producer.close();
}

/** Another fault may have the broker away at this moment; that it does it twice is no harm. */
async function again(chain: Chain, work: () => Promise<unknown>): Promise<void> {
  await chain.eventually('the broker to take it', () =>
    work().then(
      () => true,
      () => undefined,
    ),
  );
}

export const sources = {
  'partitions-added': {
    family: 'load',
    async inject({ load, note }) {
      note('a partition is added to each source');
      await load.addPartitions();
    },
  },

  'messages-repeated': {
    family: 'load',
    async inject({ chain, load, note }, dice) {
      const most = dice.between(5, 60);
      note(`the last ${most} messages of each internal topic are written again`);
      // While it is quiet, the last one ends right where its readers go on.
      await load.whileQuiet(async () => {
        for (const { topic } of chain.sources) {
          for (const name of Object.values(internalTopics(topic)) as string[]) {
            await repeatLast(chain, name, most);
          }
        }
      });
    },
  },
} satisfies Record<string, Fault>;
