import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { connect, type Kafka } from './kafka.ts';
import { connectForTest, createTopic, silentLogger, testConfig, uniqueName } from './testing.ts';

let kafka: Kafka;
beforeAll(async () => {
  kafka = await connectForTest();
});
afterAll(() => kafka.close());

describe('ensureTopics', () => {
  it('creates a topic with its settings, and accepts it when it is there', async () => {
    const settings = {
      name: uniqueName('ensured'),
      partitions: 3,
      configs: { 'cleanup.policy': 'delete', 'max.message.bytes': '2000000' },
    };
    await kafka.admin.ensureTopics([settings]);
    await kafka.admin.ensureTopics([settings]);
    expect(await kafka.admin.describeTopic(settings.name)).toMatchObject({ partitions: 3 });
  });

  it('refuses one with another number of partitions, and names both', async () => {
    const name = await createTopic(kafka, 'two', 2);
    const ensured = kafka.admin.ensureTopics([{ name, partitions: 3 }]);
    await expect(ensured).rejects.toMatchObject({ code: 'TOPIC_MISMATCH', topic: name });
    await expect(ensured).rejects.toThrow(/2 partitions and must have 3/);
  });

  it('refuses one that compaction would take records from, or that takes smaller messages', async () => {
    const name = uniqueName('compacted');
    await kafka.admin.ensureTopics([
      { name, partitions: 1, configs: { 'cleanup.policy': 'compact' } },
    ]);
    const wanted = (configs: Record<string, string>): Promise<void> =>
      kafka.admin.ensureTopics([{ name, partitions: 1, configs }]);
    await expect(wanted({ 'cleanup.policy': 'delete' })).rejects.toThrow(/cleanup.policy=compact/);
    await expect(wanted({ 'max.message.bytes': '9000000' })).rejects.toThrow(/max.message.bytes/);
    await wanted({ 'max.message.bytes': '1000' });
  });
});

describe('a transaction that is still open', () => {
  it('counts for where a partition ends, though not for what can be read', async () => {
    const topic = await createTopic(kafka, 'open', 1);
    const producer = await kafka.transactionalProducer({ transactionalId: uniqueName('writer') });
    const transaction = await producer.begin();
    const record = { topic, partition: 0, value: Buffer.from('pending') };
    await transaction.send([record, record]);
    expect(await kafka.admin.ends(topic)).toEqual(new Map([[0, 2n]]));
    expect(await kafka.admin.offsets(topic)).toMatchObject([{ earliest: 0n, latest: 0n }]);
    await transaction.commit();
    await producer.close();
  });
});

describe('a topic that does not exist', () => {
  it('is null, an error with its name, or waited for', async () => {
    const name = uniqueName('late');
    expect(await kafka.admin.describeTopic(name)).toBeNull();
    await expect(kafka.admin.offsets(name)).rejects.toMatchObject({ code: 'TOPIC_MISSING' });
    const { promise: waiting, resolve } = Promise.withResolvers<void>();
    const found = kafka.waitForTopic(name, resolve);
    await waiting;
    await kafka.admin.ensureTopics([{ name, partitions: 4 }]);
    expect(await found).toBe(4);
  });

  it('is waited for until the signal', async () => {
    const stop = new AbortController();
    const found = kafka.waitForTopic(uniqueName('never'), () => stop.abort(), stop.signal);
    await expect(found).rejects.toMatchObject({ code: 'STOPPED' });
  });
});

describe('connect', () => {
  it('waits for brokers that are away, and says so once', async () => {
    const stop = new AbortController();
    const warnings: string[] = [];
    const logger = {
      ...silentLogger,
      warn(message: string): void {
        warnings.push(message);
        stop.abort();
      },
    };
    // Port 9 is nobody's.
    const connected = connect({ ...testConfig(), brokers: ['127.0.0.1:9'], logger }, stop.signal);
    await expect(connected).rejects.toMatchObject({ code: 'STOPPED' });
    expect(warnings).toEqual(['waiting for Kafka']);
  });
});
