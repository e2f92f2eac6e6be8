/**
 * A message for a partition. Large keys, values and headers aren't copied on their way to the
 * connection: leave their bytes alone until the send, or the commit, has ended, even if with an error.
 */
export interface OutgoingMessage {
  readonly topic: string;
  readonly partition: number;
  readonly key?: Buffer | null;
  readonly value: Buffer | null;
  readonly headers?: Readonly<Record<string, Buffer | string>>;
  /** Milliseconds; default: now. */
  readonly timestamp?: number;
}

export interface SendLimits {
  /** Messages of one partition in a send. */
  readonly messages: number;
  /** Bytes of one partition in a send: they become one record batch, which the topic's max.message.bytes limits. */
  readonly batchBytes: number;
  /** Bytes of a send. */
  readonly sendBytes: number;
}

export const defaultSendLimits: SendLimits = {
  messages: 2_000,
  batchBytes: 1_000_000,
  sendBytes: 8 * 1024 * 1024,
};

/** What one call to the producer sends. */
export type Send<M> = { topic: string; messages: M[] }[];

/**
 * Splits messages into sends within the limits, keeping the order within each partition. A message
 * that is larger than a limit goes alone. Messages without a partition count as one partition.
 */
export function splitIntoSends<
  M extends Omit<OutgoingMessage, 'partition'> & { partition?: number },
>(messages: readonly M[], limits: SendLimits = defaultSendLimits): Send<M>[] {
  const waiting = new Map<string, Map<number, M[]>>();
  for (const message of messages) {
    const partitions = entry(waiting, message.topic, () => new Map<number, M[]>());
    entry(partitions, message.partition ?? -1, () => []).push(message);
  }
  const lanes = [...waiting].flatMap(([topic, partitions]) =>
    [...partitions.values()].map((lane) => ({ topic, lane, next: 0 })),
  );
  const sends: Send<M>[] = [];
  while (lanes.some(({ lane, next }) => next < lane.length)) {
    const topics = new Map<string, M[]>();
    let sendBytes = 0;
    for (const at of lanes) {
      let batchBytes = 0;
      let count = 0;
      for (; at.next < at.lane.length && count < limits.messages; count++) {
        const message = at.lane[at.next]!;
        const size = sizeOf(message);
        const full =
          (count > 0 && batchBytes + size > limits.batchBytes) ||
          (sendBytes > 0 && sendBytes + size > limits.sendBytes);
        if (full) {
          break;
        }
        batchBytes += size;
        sendBytes += size;
        entry(topics, at.topic, () => []).push(message);
        at.next++;
      }
    }
    sends.push([...topics].map(([topic, batch]) => ({ topic, messages: batch })));
  }
  return sends;
}

/** Bytes, with what the record around key and value takes at most. */
function sizeOf(message: Omit<OutgoingMessage, 'partition' | 'topic'>): number {
  let size = 40 + (message.key?.length ?? 0) + (message.value?.length ?? 0);
  for (const [name, value] of Object.entries(message.headers ?? {})) {
    size += 10 + name.length * 3 + value.length * (typeof value === 'string' ? 3 : 1);
  }
  return size;
}

function entry<K, V>(map: Map<K, V>, key: K, make: () => V): V {
  let value = map.get(key);
  if (value === undefined) {
    map.set(key, (value = make()));
  }
  return value;
}
