/** What a step gets of one partition. */
export interface PartitionWork {
  readonly topic: string;
  readonly partition: number;
  /**
   * Undecoded record batches of committed records, in order. May be empty when `next` has moved on
   * over records of aborted transactions and markers only.
   */
  readonly batches: readonly Buffer[];
  /** The first offset that is expected: records in front of it, in the first batch, don't count. */
  readonly from: bigint;
  /** The position after these batches, and after markers and aborted records behind them. */
  readonly next: bigint;
  /** Of the batches. */
  readonly bytes: number;
  /** The end of the partition when it was last fetched from. */
  readonly highWatermark: bigint;
}

interface QueuedBatch {
  readonly bytes: Buffer;
  /** The offset behind its last record. */
  readonly next: bigint;
}

/** The fetched and not yet processed batches of one partition. */
export class PartitionQueue {
  readonly topic: string;
  readonly partition: number;
  /** Fetching is paused because the queue is full. */
  paused = false;
  /** Why nothing more is read. */
  halted: string | null = null;
  /** Bytes in the queue. */
  bytes = 0;
  highWatermark: bigint;
  #batches: QueuedBatch[] = [];
  /** Where the next step's work begins. */
  #from: bigint;
  /** Where the next fetch must begin. */
  #expected: bigint;

  constructor(topic: string, partition: number, start: bigint, highWatermark: bigint) {
    this.topic = topic;
    this.partition = partition;
    this.#from = start;
    this.#expected = start;
    this.highWatermark = highWatermark;
  }

  /** Whether a fetch began where the one before ended, so that nothing is between them. */
  follows(fetchedOffset: string): boolean {
    return this.halted === null && BigInt(fetchedOffset) === this.#expected;
  }

  /** The offset that the next fetch must have begun at. */
  get expected(): bigint {
    return this.#expected;
  }

  get from(): bigint {
    return this.#from;
  }

  get length(): number {
    return this.#batches.length;
  }

  /** Records and markers that no step has got yet. */
  get lag(): bigint {
    return this.highWatermark > this.#from ? this.highWatermark - this.#from : 0n;
  }

  add(bytes: Buffer, next: bigint): void {
    this.#batches.push({ bytes, next });
    this.bytes += bytes.length;
  }

  /** The fetch ended here: behind the last batch, or further where nothing readable followed. */
  advance(expected: bigint, highWatermark: bigint): void {
    this.#expected = expected;
    this.highWatermark = highWatermark;
  }

  /** Bytes of the batch at this index. */
  sizeOf(index: number): number {
    return this.#batches[index]?.bytes.length ?? 0;
  }

  take(count: number): PartitionWork {
    const taken = this.#batches.splice(0, count);
    const all = this.#batches.length === 0;
    const from = this.#from;
    const next = all ? this.#expected : taken.at(-1)!.next;
    const bytes = taken.reduce((sum, batch) => sum + batch.bytes.length, 0);
    this.bytes -= bytes;
    this.#from = next;
    return {
      topic: this.topic,
      partition: this.partition,
      batches: taken.map((batch) => batch.bytes),
      from,
      next,
      bytes,
      highWatermark: this.highWatermark,
    };
  }

  clear(): void {
    this.#batches = [];
    this.bytes = 0;
  }
}

/**
 * Takes batches up to `budget` bytes (and at least one): one from each partition in turn, so that a
 * full partition doesn't starve the others. `first` rotates who comes first. With `positions`, also partitions
 * whose position moved on without a batch.
 */
export function takeWork(
  queues: readonly PartitionQueue[],
  budget: number,
  first: number,
  positions: boolean,
): PartitionWork[] {
  const turns = queues.map((_, index) => queues[(first + index) % queues.length]!);
  const counts = new Map<PartitionQueue, number>();
  let bytes = 0;
  for (let round = 0, more = true; more && bytes < budget; round++) {
    more = false;
    for (const queue of turns) {
      if (bytes < budget && round < queue.length) {
        bytes += queue.sizeOf(round);
        counts.set(queue, round + 1);
        more = true;
      }
    }
  }
  return turns
    .filter(
      (queue) =>
        counts.has(queue) || (positions && queue.length === 0 && queue.expected > queue.from),
    )
    .map((queue) => queue.take(counts.get(queue) ?? 0));
}
