import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { codecs } from './compression.ts';
import type { Kafka } from './kafka.ts';
import type { TransactionalProducer } from './transactional-producer.ts';
import { connectForTest, createTopic, settledContents, uniqueName } from './testing.ts';

let kafka: Kafka;
beforeAll(async () => {
  kafka = await connectForTest();
});
afterAll(() => kafka.close());

function byTime(a: { timestamp: number }, b: { timestamp: number }): number {
  return a.timestamp - b.timestamp;
}

describe('a reader', () => {
  it('gets exactly the committed records, among interleaved aborted and plain ones', async () => {
    const topic = await createTopic(kafka, 'interleaved', 1);
    const id = uniqueName('writer');
    const open = (index: number): Promise<TransactionalProducer> =>
      kafka.transactionalProducer({ transactionalId: `${id}.${index}` });
    const writers = await Promise.all([0, 1, 2, 3].map(open));
    const plain = kafka.producer();
    // The key of an abort marker, as a record's key.
    const key = Buffer.from([0, 0, 0, 0]);
    const expected: string[] = [];
    for (let round = 0; round < 6; round++) {
      const commits = (writer: number): boolean => (round + writer) % 2 === 1;
      const transactions = await Promise.all(writers.map((writer) => writer.begin()));
      for (const half of ['a', 'b']) {
        for (const [writer, transaction] of transactions.entries()) {
          const values = Array.from(
            { length: 1 + ((round * 7 + writer) % 5) },
            (_, index) => `${round}.${writer}${half}${index}`,
          );
          await transaction.send(
            values.map((value) => ({ topic, partition: 0, key, value: Buffer.from(value) })),
          );
          if (commits(writer)) {
            expected.push(...values);
          }
          if (writer === 1) {
            expected.push(`${round}.plain${half}`);
            await plain.send(topic, [{ partition: 0, key, value: `${round}.plain${half}` }]);
          }
        }
      }
      for (let end = 0; end < 4; end++) {
        const writer = (end * 3 + round) % 4;
        if (commits(writer)) {
          await transactions[writer]!.commit();
        } else {
          await transactions[writer]!.abort();
          await writers[writer]!.close();
          writers[writer] = await open(writer);
        }
      }
    }
    expect(await settledContents(kafka, topic, expected.length)).toEqual(
      expected.map((value) => `0:${value}`),
    );
    await Promise.all([plain.close(), ...writers.map((writer) => writer.close())]);
  });

  it.each(codecs)('reads what a producer compressed with %s', async (compression) => {
    const topic = await createTopic(kafka, compression, 2);
    const producer = kafka.producer();
    const messages = Array.from({ length: 3_000 }, (_, index) => ({
      partition: index % 2,
      key: `k${index}`,
      value: index % 10 === 0 ? null : `{"number":${index},"text":"${'ab'.repeat(index % 50)}"}`,
      headers: { mark: compression },
      timestamp: 1_700_000_000_000 + index,
    }));
    await producer.send(topic, messages, { compression });
    await producer.close();
    const seen: (Record<string, unknown> & { timestamp: number })[] = [];
    await kafka.readTopic(topic, (partition, { key, value, headers, timestamp }) => {
      seen.push({
        partition,
        key: String(key),
        value: value && String(value),
        headers: Object.fromEntries(headers.map((header) => [header.key, String(header.value)])),
        timestamp,
      });
    });
    expect(seen.toSorted(byTime)).toEqual(messages);
  });
});
