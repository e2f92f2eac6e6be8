import { internalTopics } from '@anabranch/contract';
import type { Admin, TopicSettings } from '@anabranch/kafka';
import { expect, it } from 'vitest';
import { prepareTopics } from './topics.ts';

it('internal topics have the partitions of the source: created, grown, and never fewer than they have', async () => {
  const had = new Map([
    ['orders.stream', 2],
    ['orders.batch', 6],
  ]);
  const grown: [string, number][] = [];
  const ensured: TopicSettings[] = [];
  const admin = {
    describeTopic: (name: string) => {
      const partitions = had.get(name);
      return Promise.resolve(partitions === undefined ? null : { name, partitions });
    },
    createPartitions: (name: string, count: number) => {
      grown.push([name, count]);
      return Promise.resolve();
    },
    ensureTopics: (topics: readonly TopicSettings[]) => {
      ensured.push(...topics);
      return Promise.resolve();
    },
  } as unknown as Admin;
  await prepareTopics(admin, internalTopics('orders'), 4);
  expect(grown).toEqual([['orders.stream', 4]]);
  expect(ensured.map(({ name, partitions }) => [name, partitions])).toEqual([
    ['orders.stream', 4],
    ['orders.batch', 6],
    ['orders.results', 4],
    ['orders.dead', 4],
  ]);
  expect(ensured.every(({ configs }) => configs?.['cleanup.policy'] === 'delete')).toBe(true);
});
