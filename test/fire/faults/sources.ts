import { internalTopics } from '@anabranch/contract';
import type { Chain } from '../../chain.ts';
import type { Fault } from '../field.ts';

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
    async inject({ chain, note }, dice) {
      const source = dice.of(chain.sources);
      const name = dice.of(['stream', 'batch', 'results', 'dead'] as const);
      const topic = internalTopics(source.topic)[name];
      const messages: { partition: number; value: Buffer }[] = [];
      await again(chain, () => {
        messages.length = 0;
        return chain.kafka.readTopic(topic, (partition, { value }) => {
          messages.push({ partition, value: value ?? Buffer.alloc(0) });
        });
      });
      const some = messages.slice(-dice.between(20, 60));
      note(`the last ${some.length} messages of ${topic} are written again`);
      const producer = chain.kafka.producer();
      await again(chain, () => producer.send(topic, some));
      await producer.close();
    },
  },
} satisfies Record<string, Fault>;
