import { randomUUID } from 'node:crypto';
import { Admin } from './admin.ts';
import type { KafkaConfig } from './patched-kafkajs.ts';
import { copyRecord, type KafkaRecord, walk } from './record-batch.ts';
import { StepLoop } from './step-loop.ts';

/** Sees records of one partition in order. */
export type TopicVisitor = (partition: number, record: KafkaRecord) => void;

/** The same as `walk` shows them, without an object each. */
export type TailVisitor = (
  partition: number,
  ...record: Parameters<Parameters<typeof walk>[1]>
) => void;

/**
 * Reads all committed records that a topic has now, each as an object, up to the first open
 * transaction of a partition; one whose commit has just returned may be open for some milliseconds
 * more. For tests and tools: services read through a StepLoop of their own.
 *
 * @throws KafkaError TOPIC_MISSING, and what a step loop ends with
 */
export function readTopic(config: KafkaConfig, topic: string, visit: TopicVisitor): Promise<void> {
  return readTail(config, topic, new Map(), (partition, ...record) => {
    visit(partition, copyRecord(...record));
  });
}

/**
 * The same, of each partition from its offset in `from`, or from its earliest one.
 *
 * @throws KafkaError TOPIC_MISSING, and what a step loop ends with
 */
export async function readTail(
  config: KafkaConfig,
  topic: string,
  from: ReadonlyMap<number, bigint>,
  visit: TailVisitor,
): Promise<void> {
  const admin = new Admin(config);
  const ends = await admin.offsets(topic);
  await admin.close();
  const missing = new Map(
    ends
      .filter(({ partition, earliest, latest }) => latest > (from.get(partition) ?? earliest))
      .map(({ partition, latest }) => [partition, latest]),
  );
  if (missing.size === 0) {
    return;
  }
  const { promise, resolve, reject } = Promise.withResolvers<void>();
  const loop = new StepLoop(config, {
    groupId: `read-${randomUUID()}`,
    instance: 'reader',
    transactionalId: 'none',
    topics: [topic],
    transactional: false,
    limits: {
      stepBytes: 8 * 1024 * 1024,
      stepMilliseconds: 0,
      queueHighBytes: 32 * 1024 * 1024,
      queueLowBytes: 8 * 1024 * 1024,
    },
    idleMilliseconds: 50,
    assigned: (partitions) =>
      partitions.map(({ partition, earliest }) => ({
        topic,
        partition,
        offset: from.get(partition) ?? earliest,
      })),
    revoked() {
      // Whoever takes over from a member that isn't there would see records again.
      reject(new Error(`Reading ${topic} was interrupted`));
    },
    step(work) {
      for (const { partition, batches, from: start, next } of work) {
        for (const batch of batches) {
          walk(batch, (...record) => visit(partition, ...record), { from: start });
        }
        if (next >= (missing.get(partition) ?? 0n)) {
          missing.delete(partition);
        }
      }
      if (missing.size === 0) {
        resolve();
      }
      return null;
    },
    onFatal: reject,
  });
  loop.start();
  try {
    await promise;
  } finally {
    await loop.stop(1_000);
  }
}
