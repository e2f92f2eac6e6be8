import type { PartitionWork } from './partition-queue.ts';
import { copyRecord, walk } from './record-batch.ts';
import type { OutgoingMessage } from './sends.ts';
import type { StepLoopOptions, StepResult } from './step-loop.ts';

const ignore = (): void => {};

/** The values of the records that a step got. */
export function valuesOf({ batches, from }: PartitionWork): string[] {
  const values: string[] = [];
  for (const batch of batches) {
    walk(batch, (...record) => values.push(String(copyRecord(...record).value)), { from });
  }
  return values;
}

/** A step that copies its records to the same partition of another topic. */
export function copyTo(topic: string): (work: readonly PartitionWork[]) => StepResult {
  return (work) => ({
    messages: work.flatMap((part): OutgoingMessage[] =>
      valuesOf(part).map((value) => ({
        topic,
        partition: part.partition,
        value: Buffer.from(value),
      })),
    ),
    offsets: work.map(({ topic: source, partition, next }) => ({
      topic: source,
      partition,
      offset: next,
      metadata: `next=${next}`,
    })),
  });
}

/** Small and quick, with what a test doesn't say. */
export function loopOptions(
  options: Pick<StepLoopOptions, 'groupId' | 'topics' | 'step'> & Partial<StepLoopOptions>,
): StepLoopOptions {
  return {
    instance: 'one',
    transactionalId: `${options.groupId}.${options.instance ?? 'one'}`,
    transactional: true,
    limits: {
      stepBytes: 1024 * 1024,
      stepMilliseconds: 10,
      queueHighBytes: 4 * 1024 * 1024,
      queueLowBytes: 1024 * 1024,
    },
    idleMilliseconds: 100,
    metadataMaxAge: 300,
    assigned: ignore,
    revoked: ignore,
    onFatal: ignore,
    ...options,
  };
}
