import { randomBytes } from 'node:crypto';
import { setTimeout as sleep } from 'node:timers/promises';
import { inject } from 'vitest';
import { connect, type Kafka } from './kafka.ts';
import type { KafkaConfig } from './patched-kafkajs.ts';

/** What the integration tests share. */
const ignore = (): void => {};
export const silentLogger = { debug: ignore, info: ignore, warn: ignore, error: ignore };

export function testConfig(): KafkaConfig {
  return {
    brokers: inject('kafkaBrokers').split(','),
    clientId: 'test',
    logger: silentLogger,
  };
}

export function connectForTest(): Promise<Kafka> {
  return connect(testConfig());
}

/** Tests share a broker, so each has topics and groups of its own. */
export function uniqueName(what: string): string {
  return `${what}-${randomBytes(5).toString('hex')}`;
}

export async function createTopic(kafka: Kafka, what: string, partitions: number): Promise<string> {
  const name = uniqueName(what);
  await kafka.admin.ensureTopics([{ name, partitions }]);
  return name;
}

/** Looks until the condition holds, and says what it was when it never does. */
export async function until(
  what: string,
  condition: () => boolean | Promise<boolean>,
  seconds = 40,
): Promise<void> {
  const giveUpAt = Date.now() + seconds * 1_000;
  while (!(await condition())) {
    if (Date.now() > giveUpAt) {
      throw new Error(`It never came to this: ${what}`);
    }
    await sleep(20);
  }
}

/** `partition:value` of all committed records, in the order of each partition. */
export async function contents(kafka: Kafka, topic: string): Promise<string[]> {
  const byPartition = new Map<number, string[]>();
  await kafka.readTopic(topic, (partition, { value }) => {
    const lane = byPartition.get(partition) ?? [];
    lane.push(`${partition}:${String(value)}`);
    byPartition.set(partition, lane);
  });
  return [...byPartition.entries()].toSorted(([a], [b]) => a - b).flatMap(([, lane]) => lane);
}

/**
 * The contents, once there are as many as expected: a commit returns before its markers are in all
 * partitions, and readers wait for those.
 */
export async function settledContents(
  kafka: Kafka,
  topic: string,
  count: number,
): Promise<string[]> {
  let found: string[] = [];
  await until(`${topic} has ${count} records`, async () => {
    found = await contents(kafka, topic);
    return found.length >= count;
  });
  return found;
}
