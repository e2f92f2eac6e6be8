import { expect, it } from 'vitest';
import { databaseWith, planWith, source } from '../testing.ts';
import { advanceFinalWatermark } from './advance-final-watermark.ts';
import { claimFrontier } from './claim-frontier.ts';
import { setPartitions } from './set-partitions.ts';

async function watermarks(): Promise<{
  pool: Awaited<ReturnType<typeof databaseWith>>['pool'];
  set: (partition: number, branch: string, seconds: number) => Promise<unknown>;
  raised: () => Promise<number | null>;
}> {
  const { pool, query } = await databaseWith(planWith());
  return {
    pool,
    set: (partition, branch, seconds) =>
      query(
        'UPDATE anabranch.frontier SET watermark = to_timestamp($3) WHERE partition = $1 AND branch = $2',
        [partition, branch, seconds],
      ),
    raised: async () => {
      await advanceFinalWatermark(pool, source.name);
      const [row] = await query(
        'SELECT extract(epoch FROM final_watermark)::int AS at FROM anabranch.sources',
      );
      return row?.['at'] as number | null;
    },
  };
}

it('is the smallest watermark of both branches over all partitions, once each has one', async () => {
  const { pool, set, raised } = await watermarks();
  expect(await raised()).toBeNull();
  await setPartitions(pool, source.name, 2);
  await set(0, 'stream', 30);
  await set(0, 'batch', 20);
  await set(1, 'stream', 40);
  expect(await raised()).toBeNull();
  await set(1, 'batch', 50);
  expect(await raised()).toBe(20);
  await set(0, 'batch', 60);
  expect(await raised()).toBe(30);
});

it('never falls, and waits for a partition that is added', async () => {
  const { pool, set, raised } = await watermarks();
  await setPartitions(pool, source.name, 1);
  await set(0, 'stream', 30);
  await set(0, 'batch', 30);
  expect(await raised()).toBe(30);
  await setPartitions(pool, source.name, 2);
  await set(0, 'stream', 90);
  await set(0, 'batch', 90);
  expect(await raised()).toBe(30);
  await set(1, 'stream', 10);
  await set(1, 'batch', 50);
  expect(await raised()).toBe(30);
  await set(1, 'stream', 80);
  expect(await raised()).toBe(50);
  await setPartitions(pool, source.name, 1);
  expect(await raised()).toBe(50);
});

it('waits for a partition that is claimed, though nobody has counted it yet', async () => {
  const { pool, set, raised } = await watermarks();
  await setPartitions(pool, source.name, 1);
  await claimFrontier(pool, source.name, [1], 'me');
  await set(1, 'stream', 30);
  await set(1, 'batch', 30);
  expect(await raised()).toBeNull();
});
