import { type InternalTopics, internalTopicSettings } from '@anabranch/contract';
import type { Admin } from '@anabranch/kafka';

/**
 * Sees to it that the internal topics of a source exist with their settings and have as many
 * partitions as the source: a partition of the source that is new gets its partners.
 */
export async function prepareTopics(
  admin: Admin,
  topics: InternalTopics,
  partitions: number,
): Promise<void> {
  for (const name of Object.values(topics) as string[]) {
    const found = await admin.describeTopic(name);
    if (found !== null && found.partitions < partitions) {
      await admin.createPartitions(name, partitions);
    }
    await admin.ensureTopics([
      {
        name,
        partitions: Math.max(partitions, found?.partitions ?? 0),
        configs: internalTopicSettings,
      },
    ]);
  }
}
