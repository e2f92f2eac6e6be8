import { randomBytes } from 'node:crypto';
import { setTimeout as pause } from 'node:timers/promises';
import { internalTopics } from '@anabranch/contract';
import type { Codec, Kafka, OutgoingMessage, TransactionalProducer } from '@anabranch/kafka';
import { eventually } from './eventually.ts';
import { endsOf } from './partition-ends.ts';
import type { SourceRecord } from './records.ts';

/** A record and where it stands in the source. */
export interface ProducedRecord extends SourceRecord {
  readonly offset: bigint;
}

export interface SourceTopicOptions {
  /** What the names of source and topic begin with: `orders`. */
  readonly name: string;
  readonly partitions: number;
  readonly kafka: Kafka;
  readonly brokers: string;
}

const codecs = ['none', 'gzip', 'snappy', 'lz4', 'zstd'] as const;

/** A source's topic with a name of its own, and a memory of every record that was produced to it. */
export class SourceTopic {
  readonly source: string;
  readonly topic: string;
  /** All that a read_committed reader may see, in the order of each partition. */
  readonly produced: ProducedRecord[] = [];
  readonly #kafka: Kafka;
  readonly #brokers: string;
  /** Next offset of each partition of the source, counted here and not asked of any client. */
  #next: bigint[];
  #sends = 0;
  #producer: ReturnType<Kafka['producer']> | undefined;

  constructor({ name, partitions, kafka, brokers }: SourceTopicOptions) {
    const unique = randomBytes(4).toString('hex');
    this.source = `${name}_${unique}`;
    this.topic = `e2e-${name}-${unique}`;
    this.#kafka = kafka;
    this.#brokers = brokers;
    this.#next = Array<bigint>(partitions).fill(0n);
  }

  get partitions(): number {
    return this.#next.length;
  }

  async create(): Promise<void> {
    // The records' timestamps are of 2025: retention would take them away.
    const configs = { 'retention.ms': '-1' };
    await this.#kafka.admin.ensureTopics([
      { name: this.topic, partitions: this.#next.length, configs },
    ]);
  }

  async addPartitions(count: number): Promise<void> {
    await this.#kafka.admin.createPartitions(this.topic, count);
    this.#next = [...this.#next, ...Array<bigint>(count - this.#next.length).fill(0n)];
    // kafkajs leaves out, without a word, what is for a partition that it hasn't heard of yet.
    await this.#dropProducer();
  }

  /** Sends records with one of the codecs, each in turn. */
  async produce(records: readonly SourceRecord[]): Promise<void> {
    await this.#send(records);
    this.#remember(records);
  }

  /** Sends records in a transaction of their own. */
  async produceInTransaction(records: readonly SourceRecord[]): Promise<void> {
    const producer = await this.#kafka.transactionalProducer({
      transactionalId: `${this.topic}.c`,
    });
    try {
      await producer.commit(records.map(this.#outgoing), [], null);
      this.#remember(records);
      this.#skipMarkers(records);
      await this.#markersWritten();
    } finally {
      await producer.close();
    }
  }

  /**
   * Sends records that nobody may ever see: two transactions over the same partitions, interleaved,
   * and both aborted, the later one first.
   */
  async produceAborted(
    first: readonly SourceRecord[],
    second: readonly SourceRecord[],
  ): Promise<void> {
    const open = (name: string): Promise<TransactionalProducer> =>
      this.#kafka.transactionalProducer({ transactionalId: `${this.topic}.${name}` });
    const [a, b] = await Promise.all([open('a'), open('b')]);
    try {
      const [outer, inner] = await Promise.all([a.begin(), b.begin()]);
      const half = Math.ceil(first.length / 2);
      await outer.send(first.slice(0, half).map(this.#outgoing));
      await inner.send(second.map(this.#outgoing));
      await outer.send(first.slice(half).map(this.#outgoing));
      for (const { partition } of [...first, ...second]) {
        this.#take(partition);
      }
      await inner.abort();
      this.#skipMarkers(second);
      await this.#markersWritten();
      await outer.abort();
      this.#skipMarkers(first);
      await this.#markersWritten();
    } finally {
      await Promise.all([a.close(), b.close()]);
    }
  }

  /**
   * Sends records while brokers come and go, until all of them are written. A send that failed may
   * have been written all the same: the ends of the partitions tell, since nobody else writes here.
   */
  async produceThroughFaults(records: readonly SourceRecord[]): Promise<void> {
    for (let rest = records; rest.length > 0;) {
      const failed = await this.#send(rest).then(
        () => false,
        () => true,
      );
      if (failed) {
        await this.#dropProducer();
      }
      const ends = await this.#endsAtRest(failed);
      const counts = Map.groupBy(rest, ({ partition }) => partition);
      const isWritten = (partition: number): boolean => {
        const grown = Number((ends[partition] ?? 0n) - (this.#next[partition] ?? 0n));
        if (grown !== 0 && grown !== counts.get(partition)?.length) {
          throw new Error(
            `Partition ${partition} of ${this.topic} has grown by ${grown}, not by what was sent.`,
          );
        }
        return grown > 0;
      };
      const written = new Set([...counts.keys()].filter(isWritten));
      this.#remember(rest.filter(({ partition }) => written.has(partition)));
      rest = rest.filter(({ partition }) => !written.has(partition));
    }
  }

  /** `produceAborted`, while brokers come and go. */
  async abortThroughFaults(
    first: readonly SourceRecord[],
    second: readonly SourceRecord[],
  ): Promise<void> {
    await this.produceAborted(first, second).catch(() => this.#abortOpen(['a', 'b']));
    this.#next = await this.#endsAtRest(true);
  }

  /** `produceInTransaction`, while brokers come and go: what is remembered is what readers see. */
  async commitThroughFaults(records: readonly SourceRecord[]): Promise<void> {
    const before = this.#next;
    const outcome = await this.#commit(records).then(
      () => true,
      () => null,
    );
    if (outcome === null) {
      await this.#abortOpen(['c']);
    }
    const ends = await this.#endsAtRest(true);
    if (outcome ?? (await this.#isVisible(records[0]?.partition ?? 0, before))) {
      this.#remember(records);
    }
    this.#next = ends;
  }

  async #commit(records: readonly SourceRecord[]): Promise<void> {
    const producer = await this.#kafka.transactionalProducer({
      transactionalId: `${this.topic}.c`,
    });
    try {
      await producer.commit(records.map(this.#outgoing), [], null);
    } finally {
      await producer.close();
    }
  }

  /** Opens producers of the same names, which aborts what their predecessors left open. */
  async #abortOpen(names: readonly string[]): Promise<void> {
    for (const name of names) {
      const transactionalId = `${this.topic}.${name}`;
      await eventually('the brokers to abort a transaction', async () => {
        const producer = await this.#kafka
          .transactionalProducer({ transactionalId })
          .catch(() => undefined);
        await producer?.close();
        return producer && true;
      });
    }
  }

  /** Whether what stands at the old end of a partition was committed. */
  async #isVisible(partition: number, ends: readonly bigint[]): Promise<boolean> {
    return eventually('the source to be readable', async () => {
      let seen = false;
      return this.#kafka
        .readTopic(this.topic, (where, { offset }) => {
          seen ||= where === partition && offset === ends[partition];
        })
        .then(
          () => seen,
          () => undefined,
        );
    });
  }

  /**
   * The ends of the partitions once brokers answer, no transaction is open, and, where a request may
   * still be under way, two looks say the same.
   */
  async #endsAtRest(twice: boolean): Promise<bigint[]> {
    let last = '';
    return eventually(`the ends of ${this.topic}`, async () => {
      const ends = await endsOf(this.#brokers, this.topic, this.#next.length).catch(() => []);
      const isOpen = ends.length === 0 || ends.some(({ all, committed }) => committed < all);
      const now = ends.map(({ all }) => all);
      const isSame = String(now) === last;
      last = String(now);
      if (isOpen || (twice && !isSame)) {
        await pause(twice ? 200 : 0);
        return undefined;
      }
      return now;
    });
  }

  /** Offset behind the last record that a reader gets, of each partition that has any. */
  lastOffsets(): Map<number, bigint> {
    const ends = new Map<number, bigint>();
    for (const { partition, offset } of this.produced) {
      ends.set(partition, offset + 1n);
    }
    return ends;
  }

  /** What is compared later rests on the offsets counted here: a repeated send would shift them. */
  async checkEnds(): Promise<void> {
    const ends = await this.#ends();
    if (String(ends) !== String(this.#next)) {
      throw new Error(
        `The source ends at ${String(ends)}, though what was produced makes ${String(this.#next)}.`,
      );
    }
  }

  /** Deletes the topic and the internal ones. */
  async delete(): Promise<void> {
    await this.#dropProducer();
    const internal = Object.values(internalTopics(this.topic)) as string[];
    for (const topic of [this.topic, ...internal]) {
      await this.#kafka.admin.deleteTopics([topic]).catch(() => undefined);
    }
  }

  async #send(records: readonly SourceRecord[]): Promise<void> {
    const compression = codecs[this.#sends++ % codecs.length] as Codec;
    const producer = (this.#producer ??= this.#kafka.producer());
    await producer.send(
      this.topic,
      records.map(({ partition, key, value, headers, timestamp }) => ({
        partition,
        key,
        value,
        headers,
        timestamp,
      })),
      { compression },
    );
  }

  async #dropProducer(): Promise<void> {
    await this.#producer?.close().catch(() => undefined);
    this.#producer = undefined;
  }

  readonly #outgoing = ({
    partition,
    key,
    value,
    headers,
    timestamp,
  }: SourceRecord): OutgoingMessage => ({
    topic: this.topic,
    partition,
    key,
    value,
    headers,
    timestamp,
  });

  #remember(records: readonly SourceRecord[]): void {
    for (const record of records) {
      this.produced.push({ ...record, offset: this.#take(record.partition) });
    }
  }

  /** A transaction's end takes an offset of each partition that it wrote to. */
  #skipMarkers(records: readonly SourceRecord[]): void {
    for (const partition of new Set(records.map((record) => record.partition))) {
      this.#take(partition);
    }
  }

  #take(partition: number): bigint {
    const offset = this.#next[partition];
    if (offset === undefined) {
      throw new RangeError(`The source has no partition ${partition}.`);
    }
    this.#next[partition] = offset + 1n;
    return offset;
  }

  /** A broker ends a transaction first and writes its markers then: what is sent next may overtake them. */
  async #markersWritten(): Promise<void> {
    await eventually('the transactions to be marked as ended', async () =>
      String(await this.#ends()) === String(this.#next) ? true : undefined,
    );
  }

  async #ends(): Promise<bigint[]> {
    const ends = await endsOf(this.#brokers, this.topic, this.#next.length);
    return ends.map(({ all }) => all);
  }
}
