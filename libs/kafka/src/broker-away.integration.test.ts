import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { connect, type Kafka } from './kafka.ts';
import { copyTo, loopOptions } from './step-fixtures.ts';
import { createTopic, settledContents, silentLogger, uniqueName, until } from './testing.ts';

// A broker of its own, since it is killed.
const directory = mkdtempSync(path.join(tmpdir(), 'anabranch-kafka-away-'));
let broker: Awaited<ReturnType<typeof startBroker>>;
let kafka: Kafka;

async function startBroker() {
  const { startKafka } = await import('@anabranch/servers');
  return startKafka({ directory });
}

beforeAll(async () => {
  broker = await startBroker();
  kafka = await connect({ brokers: [broker.brokers], clientId: 'test', logger: silentLogger });
}, 120_000);
afterAll(async () => {
  await kafka.close();
  await broker.stop();
  rmSync(directory, { recursive: true, force: true });
});

describe('while the broker is away', { timeout: 240_000 }, () => {
  it('a step loop keeps trying, and has lost and repeated nothing when it is back', async () => {
    const source = await createTopic(kafka, 'source', 2);
    const target = await createTopic(kafka, 'target', 2);
    const groupId = uniqueName('group');
    const expected: string[][] = [[], []];
    // One record in a batch, so that there are many steps.
    const produce = async (count: number): Promise<void> => {
      const producer = kafka.producer();
      for (let index = 0; index < count; index++) {
        const partition = index % 2;
        const value = `${expected[partition]!.length}`;
        await producer.send(source, [{ partition, value }]);
        expected[partition]!.push(`${partition}:${value}`);
      }
      await producer.close();
    };
    const copy = copyTo(target);
    const loop = kafka.stepLoop(
      loopOptions({
        groupId,
        topics: [source],
        targets: [target],
        limits: { stepBytes: 200, stepMilliseconds: 1, queueHighBytes: 1e6, queueLowBytes: 1e5 },
        step: copy,
      }),
    );
    loop.start();
    const kill = (): Promise<void> => broker.kill();
    // Three out of four brokers that are killed here forget to end a transaction.
    for (const end of [kill, kill, () => broker.restart()]) {
      const { transactions, rebuilds } = loop.state();
      await produce(100);
      await until('it works', () => loop.state().transactions > transactions);
      await end();
      await until('it has noticed', () => loop.state().rebuilds > rebuilds);
      expect(loop.state().lastError).not.toBeNull();
      if (broker.pid === undefined) {
        await broker.restart();
      }
    }
    await until(
      'all is copied',
      async () => {
        const committed = await kafka.admin.committed(groupId, [source]).catch(() => []);
        return committed.length === 2 && committed.every(({ offset }) => offset === 150n);
      },
      90,
    );
    expect(await settledContents(kafka, target, 300)).toEqual(expected.flat());
    expect(loop.state()).toMatchObject({ joined: true, fatal: null, halted: [] });
    await loop.stop(5_000);
  });
});
