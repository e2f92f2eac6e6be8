import { randomBytes } from 'node:crypto';
import type { OutgoingMessage } from '@anabranch/kafka';
import { Orders, type OrdersOptions } from './orders.ts';
import type { BenchServers } from './servers.ts';

/** Messages per partition in a send: what libs/kafka sends at once. */
export const sendRecords = 2_000;

export interface FillOptions extends OrdersOptions {
  /** Default: those that make up the ten minutes. */
  readonly total?: number;
  readonly partitions: number;
}

/** So many records of a topic, from its beginning on. */
export interface Extent {
  readonly records: number;
  /** Those that a table has a row or a share of a row for. */
  readonly counting: number;
}

/** A source's topic with its records, the second half of which nobody can read yet. */
export interface FilledTopic {
  readonly topic: string;
  readonly partitions: number;
  /** What all of the records add up to. */
  readonly orders: Orders;
  readonly firstHalf: Extent;
  readonly all: Extent;
  /** Lets the second half be read, from one moment to the next. */
  release(): Promise<void>;
  /** Deletes the topic. */
  remove(): Promise<void>;
}

/** Brokers allow 15 minutes; the first half must be through by then. */
const withheldMilliseconds = 14 * 60_000;

/**
 * Makes a topic and fills it; no part of what is measured. The second half is in a transaction that
 * `release` commits. Otherwise a service in front could be through with all records while the last one
 * has stored half of them, and its work would be missing in the figures of the second half.
 */
export async function fillTopic(
  servers: BenchServers,
  options: FillOptions,
  onProgress: (made: number) => void,
): Promise<FilledTopic> {
  const { partitions, records, total = records } = options;
  const { kafka, signal } = servers;
  const topic = `bench-orders-${randomBytes(4).toString('hex')}`;
  await kafka.admin.ensureTopics([{ name: topic, partitions, configs: { 'retention.ms': '-1' } }]);
  const orders = new Orders(options);
  // Many partitions get less each, so that a send stays one of some megabytes.
  const most = Math.min(sendRecords * partitions, 32_000);
  const fill = async (
    until: number,
    send: (messages: OutgoingMessage[]) => Promise<void>,
  ): Promise<Extent> => {
    while (orders.made < until) {
      signal.throwIfAborted();
      await send(makeMessages(topic, orders, Math.min(most, until - orders.made), partitions));
      onProgress(orders.made);
    }
    return { records: orders.made, counting: orders.rows.rows };
  };

  const producer = kafka.producer();
  const firstHalf = await fill(Math.floor(total / 2), (messages) => producer.send(topic, messages));
  await producer.close();
  const withholding = await kafka.transactionalProducer({
    transactionalId: topic,
    transactionTimeout: withheldMilliseconds,
  });
  const transaction = await withholding.begin();
  const all = await fill(total, (messages) => transaction.send(messages));
  return {
    topic,
    partitions,
    orders,
    firstHalf,
    all,
    release: () =>
      transaction.commit().catch((cause: unknown) => {
        throw new Error(
          `The second half of the records can't be released, for one as the first half took more than 14 minutes: ${(cause as Error).message}`,
          { cause },
        );
      }),
    remove: async () => {
      await withholding.close();
      await servers.deleteTopics([topic]);
    },
  };
}

/** Records go to the partitions in turn, whoever their customer is: the harder case. */
export function makeMessages(
  topic: string,
  orders: Orders,
  count: number,
  partitions: number,
): OutgoingMessage[] {
  return Array.from({ length: count }, () => ({
    topic,
    partition: orders.made % partitions,
    value: Buffer.from(orders.next()),
  }));
}
