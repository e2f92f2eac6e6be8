/** The internal topics of a source, each with as many partitions as the source's topic. */
export interface InternalTopics {
  readonly stream: string;
  readonly batch: string;
  readonly results: string;
  readonly dead: string;
}

export function internalTopics(topic: string): InternalTopics {
  return {
    stream: `${topic}.stream`,
    batch: `${topic}.batch`,
    results: `${topic}.results`,
    dead: `${topic}.dead`,
  };
}

/**
 * Settings of the internal topics. A block or dead letter can be as large as its largest record, so
 * the limit is wider than the broker's default of 1 MiB. `delete` with the broker's retention: a
 * compacted topic would lose blocks, which have no key.
 */
export const internalTopicSettings: Readonly<Record<string, string>> = {
  'cleanup.policy': 'delete',
  'max.message.bytes': String(17 * 1024 * 1024),
  'message.timestamp.type': 'CreateTime',
};
