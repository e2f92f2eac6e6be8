import { decodeBlock, internalTopics, isTelemetry, PartialAssembler } from '@anabranch/contract';
import type { Chain } from '../../chain.ts';
import { endsOf } from '../../partition-ends.ts';
import type { SourceTopic } from '../../source-topic.ts';

interface Coverage {
  readonly origin: bigint;
  readonly from: bigint;
  readonly to: bigint;
}

/**
 * Reads the internal topics of a source as its readers do.
 * @param repeated messages were written again on purpose: what lies in front of the end is no fault
 * @returns where the committed blocks or partials of a partition and branch don't tile
 */
export async function topicFaults(
  chain: Chain,
  source: SourceTopic,
  repeated: boolean,
): Promise<string[]> {
  const topics = internalTopics(source.topic);
  const faults: string[] = [];
  const next = new Map<string, bigint>();
  const take = (where: string, { origin, from, to }: Coverage): void => {
    const expected = next.get(where) ?? origin;
    if (repeated && from < expected && to <= expected) {
      return;
    }
    if (from !== expected || to < from) {
      faults.push(`${where}: [${from}, ${to}) follows ${expected}`);
    }
    next.set(where, to);
  };
  for (const branch of ['stream', 'batch'] as const) {
    for (const { partition, value } of await readAll(chain, topics[branch])) {
      take(`${topics[branch]}/${partition}`, decodeBlock(value));
    }
  }
  const assemblers = new Map<number, PartialAssembler>();
  for (const { partition, value, offset } of await readAll(chain, topics.results)) {
    if (isTelemetry(value)) {
      continue;
    }
    const assembler = assemblers.get(partition) ?? new PartialAssembler();
    assemblers.set(partition, assembler);
    const partial = assembler.add(value, offset);
    if (partial !== null) {
      take(`${topics.results}/${partition}/${partial.branch}`, partial);
    }
  }
  for (const [partition, end] of source.lastOffsets()) {
    for (const where of [
      `${topics.stream}/${partition}`,
      `${topics.batch}/${partition}`,
      `${topics.results}/${partition}/stream`,
      `${topics.results}/${partition}/batch`,
    ]) {
      if ((next.get(where) ?? 0n) < end) {
        faults.push(`${where} ends at ${next.get(where) ?? 'nothing'}, the source at ${end}`);
      }
    }
  }
  return faults;
}

interface Message {
  readonly partition: number;
  readonly offset: bigint;
  readonly value: Buffer;
}

/** A reader that gets no processor for a while loses its membership: then it begins anew. */
async function readAll(chain: Chain, topic: string): Promise<Message[]> {
  return chain.eventually(`${topic} to be read`, async () => {
    const messages: Message[] = [];
    return chain.kafka
      .readTopic(topic, (partition, { offset, value }) => {
        messages.push({ partition, offset, value: value ?? Buffer.alloc(0) });
      })
      .then(
        () => messages,
        () => undefined,
      );
  });
}

/** @returns the partitions of internal topics in which a transaction is still open */
export async function openTransactions(
  chain: Chain,
  brokers: string,
  { topic, partitions }: SourceTopic,
): Promise<string[]> {
  const open: string[] = [];
  for (const name of Object.values(internalTopics(topic)) as string[]) {
    const found = await chain.kafka.admin.describeTopic(name);
    if (found?.partitions !== partitions) {
      open.push(`${name} has ${found?.partitions} partitions, the source ${partitions}`);
      continue;
    }
    const ends = await endsOf(brokers, name, partitions);
    ends.forEach(({ all, committed }, partition) => {
      if (committed < all) {
        open.push(`${name}/${partition} is committed up to ${committed} of ${all}`);
      }
    });
  }
  return open;
}
