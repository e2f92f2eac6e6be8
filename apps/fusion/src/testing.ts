import {
  type Branch,
  encodePartial,
  type Partial,
  PartialAssembler,
  type TablePart,
} from '@anabranch/contract';
import type { PartitionWork, StepContext } from '@anabranch/kafka';
import { source, totalPlan } from '@anabranch/postgres/testing';
import { createMetrics, Log, Tracer } from '@anabranch/service';
import { crc32c } from '@node-rs/crc32';
import type pg from 'pg';
import type { Plan } from '@anabranch/compute';
import { SourceFusion } from './source-fusion.ts';

/** What the tests share: partials, Kafka's partitions as arrays, and instances that read them. */
export const log = new Log({ service: 'fusion', instance: 'test', write: () => undefined });

export const metrics = createMetrics('fusion', 'test');

export const results = `${source.topic}.results`;
export const dead = `${source.topic}.dead`;

export function partialOf(
  range: { partition?: number; branch?: Branch; from: bigint; to: bigint },
  rest: globalThis.Partial<Omit<Partial, 'tables'>> & { tables?: readonly TablePart[] } = {},
): Partial {
  const branch = range.branch ?? 'stream';
  const records = range.to - range.from;
  return {
    source: source.name,
    partition: 0,
    origin: 0n,
    epoch: 0n,
    watermark: null,
    definition: source.hash,
    split: {
      stream: branch === 'stream' ? records : 0n,
      batch: branch === 'batch' ? records : 0n,
      dead: 0n,
      rules: [0n, records],
    },
    producedAt: 0n,
    tables: [tableOf('total', records, '')],
    run: null,
    ...range,
    branch,
    ...rest,
  };
}

/** A table's share in which every record counts. */
export function tableOf(name: string, records: bigint, text: Buffer | string): TablePart {
  const bytes = Buffer.from(text);
  return {
    name,
    hash: name === 'total' ? totalPlan.table.hash : `${name}-1`,
    read: records,
    filtered: 0n,
    aggregated: records,
    dead: 0n,
    rows: bytes.length === 0 ? 0n : 1n,
    text: bytes,
  };
}

/** The log of a topic: the messages of each partition; a message's offset is its index. */
export class Topic {
  readonly name: string;
  readonly #partitions = new Map<number, Buffer[]>();

  constructor(name: string) {
    this.name = name;
  }

  messages(partition: number): Buffer[] {
    const messages = this.#partitions.get(partition) ?? [];
    this.#partitions.set(partition, messages);
    return messages;
  }

  write(...partials: readonly Partial[]): void {
    for (const partial of partials) {
      this.messages(partial.partition).push(...encodePartial(partial));
    }
  }

  /** What was written, in order. */
  partials(partition: number): readonly Partial[] {
    const assembler = new PartialAssembler();
    return this.messages(partition).flatMap(
      (message, offset) => assembler.add(message, BigInt(offset)) ?? [],
    );
  }

  work(partition: number, from: bigint, count: number): PartitionWork {
    const all = this.messages(partition);
    const taken = all.slice(Number(from), Number(from) + count);
    const batch = recordBatch(from, taken);
    return {
      topic: this.name,
      partition,
      batches: taken.length > 0 ? [batch] : [],
      from,
      next: from + BigInt(taken.length),
      bytes: batch.length,
      highWatermark: BigInt(all.length),
    };
  }
}

/** An instance of fusion as the step loop would drive it. */
export class Instance {
  readonly fusion: SourceFusion;
  readonly halted = new Map<string, string>();
  readonly #topics: readonly Topic[];
  readonly #partitions: readonly number[];
  #positions = new Map<string, bigint>();

  constructor(
    pool: pg.Pool,
    plan: Plan,
    topics: readonly Topic[],
    partitions: readonly number[],
    countPartitions = Math.max(...partitions) + 1,
  ) {
    const sourcePlan = plan.sources.get(source.name);
    if (sourcePlan === undefined) {
      throw new Error('The plan has no such source.');
    }
    this.#topics = topics;
    this.#partitions = partitions;
    this.fusion = new SourceFusion({
      plan: sourcePlan,
      pool,
      instance: 'test',
      log,
      metrics,
      tracer: Tracer.off,
      countPartitions: () => Promise.resolve(countPartitions),
      processed: () => undefined,
    });
  }

  /** As at the begin of a generation. */
  async assign(): Promise<void> {
    this.halted.clear();
    const starts = await this.fusion.assigned(
      this.#topics.flatMap((topic) =>
        this.#partitions.map((partition) => ({
          topic: topic.name,
          partition,
          generation: 1,
          committed: null,
          earliest: 0n,
          latest: BigInt(topic.messages(partition).length),
        })),
      ),
    );
    this.#positions = new Map(
      starts.map(({ topic, partition, offset }) => [`${topic}/${partition}`, offset]),
    );
  }

  /** @param count how many messages of a partition */
  async step(count: (partition: number) => number = () => 1_000): Promise<boolean> {
    const work = this.#take(count);
    await this.fusion.step(work, this.#context());
    return work.length > 0;
  }

  #take(count: (partition: number) => number): PartitionWork[] {
    const work: PartitionWork[] = [];
    for (const topic of this.#topics) {
      for (const partition of this.#partitions) {
        const key = `${topic.name}/${partition}`;
        const from = this.#positions.get(key) ?? 0n;
        const piece = topic.work(partition, from, count(partition));
        if (piece.batches.length > 0 && !this.halted.has(key)) {
          this.#positions.set(key, piece.next);
          work.push(piece);
        }
      }
    }
    return work;
  }

  #context(): StepContext {
    return {
      generation: 1,
      signal: new AbortController().signal,
      halt: (topic, partition, reason) => {
        this.halted.set(`${topic}/${partition}`, reason);
      },
      wake: () => undefined,
    };
  }

  position(topic: string, partition: number): bigint | undefined {
    return this.#positions.get(`${topic}/${partition}`);
  }

  /** Steps until there is nothing left to read, and begins anew after a fault that passes. */
  async drain(count?: (partition: number) => number): Promise<void> {
    for (let assigned = true; ;) {
      try {
        if (!assigned) {
          await this.assign();
          assigned = true;
        }
        if (!(await this.step(count))) {
          return;
        }
      } catch (error) {
        if ((error as { retriable?: boolean }).retriable !== true) {
          throw error;
        }
        assigned = false;
      }
    }
  }
}

/** Kafka's record batch, format 2, uncompressed, of values without keys and headers. */
function recordBatch(baseOffset: bigint, values: readonly Buffer[]): Buffer {
  const records = values.flatMap((value, index) => {
    // attributes, timestamp delta, offset delta, no key, value, no headers
    const body = Buffer.concat([
      Buffer.from([0, 0]),
      varint(index),
      varint(-1),
      varint(value.length),
      value,
      varint(0),
    ]);
    return [varint(body.length), body];
  });
  const head = Buffer.alloc(61);
  const batch = Buffer.concat([head, ...records]);
  batch.writeBigInt64BE(baseOffset, 0);
  batch.writeInt32BE(batch.length - 12, 8);
  batch.writeUInt8(2, 16);
  batch.writeInt32BE(values.length - 1, 23);
  batch.writeInt32BE(values.length, 57);
  batch.writeUInt32BE(crc32c(batch.subarray(21)) >>> 0, 17);
  return batch;
}

function varint(value: number): Buffer {
  let rest = (value << 1) ^ (value >> 31);
  const bytes: number[] = [];
  for (; rest > 127; rest >>>= 7) {
    bytes.push((rest & 127) | 128);
  }
  return Buffer.from([...bytes, rest]);
}
