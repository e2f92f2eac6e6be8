import { randomUUID } from 'node:crypto';
import { type Kafka, walk } from '@anabranch/kafka';

/** Sees a record as `walk` does, with its partition. */
export type TailVisitor = (
  partition: number,
  ...record: Parameters<Parameters<typeof walk>[1]>
) => void;

/** Where each partition ends now. */
export async function endsOf(kafka: Kafka, topic: string): Promise<Map<number, bigint>> {
  const offsets = await kafka.admin.offsets(topic);
  return new Map(offsets.map(({ partition, latest }) => [partition, latest]));
}

/** Reads the committed records of a topic from these offsets to where it ends now. */
export async function readTail(
  kafka: Kafka,
  topic: string,
  from: ReadonlyMap<number, bigint>,
  visit: TailVisitor,
): Promise<void> {
  const missing = new Map(
    [...(await endsOf(kafka, topic))].filter(
      ([partition, end]) => end > (from.get(partition) ?? 0n),
    ),
  );
  if (missing.size === 0) {
    return;
  }
  const { promise, resolve, reject } = Promise.withResolvers<void>();
  const loop = kafka.stepLoop({
    groupId: `bench-${randomUUID()}`,
    instance: 'bench',
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
    revoked() {},
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
