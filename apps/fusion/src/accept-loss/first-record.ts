import { randomUUID } from 'node:crypto';
import { type Kafka, walk } from '@anabranch/kafka';

/** How the command is called in groups and transactional ids. */
export const commandId = 'anabranch.accept-loss';

export interface FoundRecord<T> {
  readonly offset: bigint;
  readonly found: T;
}

/**
 * The first committed record of a partition, at or behind `from`, that `pick` makes something of; null:
 * there is none up to the partition's present end.
 * @param pick gets the record's value and Kafka timestamp; undefined: the next one, please
 */
export async function firstRecord<T>(
  kafka: Kafka,
  topic: string,
  partition: number,
  from: bigint,
  pick: (value: Buffer, offset: bigint, timestamp: number) => T | undefined,
): Promise<FoundRecord<T> | null> {
  const end = (await kafka.admin.offsets(topic)).find((at) => at.partition === partition)?.latest;
  if (end === undefined || end <= from) {
    return null;
  }
  const { promise, resolve, reject } = Promise.withResolvers<FoundRecord<T> | null>();
  let result: FoundRecord<T> | null = null;
  const loop = kafka.stepLoop({
    groupId: `${commandId}.${randomUUID()}`,
    instance: 'reader',
    transactionalId: 'none',
    topics: [topic],
    transactional: false,
    limits: {
      stepBytes: 1024 * 1024,
      stepMilliseconds: 0,
      queueHighBytes: 4 * 1024 * 1024,
      queueLowBytes: 1024 * 1024,
    },
    idleMilliseconds: 50,
    assigned(partitions, context) {
      for (const other of partitions.filter((candidate) => candidate.partition !== partition)) {
        context.halt(topic, other.partition, 'it is not asked for');
      }
      return [{ topic, partition, offset: from }];
    },
    revoked() {},
    step(work, context) {
      try {
        for (const { batches, from: begin, next } of work) {
          for (const batch of batches) {
            walk(
              batch,
              (bytes, at, timestamp, valueStart, valueEnd) => {
                if (result === null) {
                  const value = bytes.subarray(Math.max(valueStart, 0), Math.max(valueEnd, 0));
                  const offset = BigInt(at);
                  const found = pick(value, offset, timestamp);
                  result = found === undefined ? null : { offset, found };
                }
              },
              { from: begin },
            );
          }
          if (result !== null || next >= end) {
            resolve(result);
          }
        }
      } catch (error) {
        context.halt(topic, partition, 'it cannot be read');
        reject(error);
      }
      return null;
    },
    lost({ expected, earliest }) {
      reject(
        new Error(
          `${topic}/${partition} lost offsets ${expected} to ${earliest} just now: try again.`,
        ),
      );
    },
    onFatal: reject,
  });
  loop.start();
  try {
    return await promise;
  } finally {
    await loop.stop(1_000);
  }
}
