import { mkdtemp, readdir, readFile, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import path from 'node:path';
import type { Processor, SourcePlan, TextBlock } from '@anabranch/compute';
import {
  type Block,
  decodeTelemetry,
  encodeBlock,
  isTelemetry,
  type Partial,
  PartialAssembler,
  type Telemetry,
} from '@anabranch/contract';
import { testBlock, type TestWork, workOf } from '@anabranch/contract/testing';
import { judge } from '@anabranch/coverage';
import type { StepContext, StepResult } from '@anabranch/kafka';
import { createMetrics, Log, Tracer } from '@anabranch/service';
import fc from 'fast-check';
import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, it, vi } from 'vitest';
import { SourceBatch } from './source-batch.ts';

const every = 60_000;
const plan = {
  source: {
    name: 'orders',
    topic: 'orders',
    batch: { every, cron: null, backlogBytes: null, freshWithin: null },
  },
  tables: [{ table: { name: 'clean', hash: 'h' } }],
} as unknown as SourcePlan;

let directory: string;
beforeAll(async () => {
  directory = await mkdtemp(path.join(tmpdir(), 'anabranch-batch-'));
});
afterAll(() => rm(directory, { recursive: true, force: true }));

/** A record is its text, `partition:offset`; a table's rows are the records. */
const processor = {
  async spool(texts: readonly TextBlock[], file: string) {
    await writeFile(file, Buffer.concat(texts.map(({ text }) => text)));
    return { records: 0, bytes: 0, seconds: 0.5 };
  },
  async processFiles(files: readonly string[], partitions: readonly number[]) {
    const texts = await Promise.all(files.map((file) => readFile(file, 'utf8')));
    const lines = texts.join('').split('\n');
    return {
      tables: partitions.map((partition) => {
        const own = lines.filter((line) => line.startsWith(`${partition}:`));
        return {
          name: 'clean',
          partition,
          read: own.length,
          filtered: 0,
          aggregated: own.length,
          dead: 0,
          rows: own.length,
          text: Buffer.from(own.map((line) => `${line}\n`).join('')),
        };
      }),
      deadLetters: [],
      seconds: { load: 1, preprocess: 2, process: 3, store: 4 },
      tableSeconds: new Map([['clean', 9]]),
    };
  },
} as unknown as Processor;

/** The batch topic, what the group has committed, and what fusion would make of the results. */
class Model {
  readonly topic: Buffer[][];
  readonly committed = new Map<number, { offset: bigint; metadata: string }>();
  readonly next: bigint[];
  readonly merged: Partial[] = [];
  readonly telemetry: Telemetry[] = [];
  readonly rows: string[] = [];
  readonly told: [number, number][] = [];
  readonly halted: string[] = [];
  readonly positions: bigint[];
  readonly metrics = createMetrics('batch-processor', '0');
  now = 1_000_000;
  woken = 0;
  batch!: SourceBatch;

  constructor(partitions: readonly (readonly Block[])[]) {
    this.topic = partitions.map((all) => all.map(encodeBlock));
    this.next = partitions.map(() => 0n);
    this.positions = partitions.map(() => 0n);
  }

  readonly context: StepContext = {
    generation: 1,
    signal: new AbortController().signal,
    halt: (topic, partition, reason) => this.halted.push(`${topic}/${partition}: ${reason}`),
    wake: () => {
      this.woken++;
    },
  };

  /** A new process, as it begins after a kill: from what is committed. */
  start(sliceBytes = 1_000_000, ofPlan: SourcePlan = plan): void {
    this.batch = new SourceBatch({
      plan: ofPlan,
      processor,
      instance: 'one',
      spoolDirectory: directory,
      fileBytes: 10,
      sliceBytes,
      log: new Log({ service: 'batch-processor', instance: 'one', write: () => {} }),
      metrics: this.metrics,
      tracer: Tracer.off,
      processed: (partition, producedAt) => this.told.push([partition, producedAt]),
      now: () => this.now,
    });
    this.assign();
  }

  assign(): void {
    this.topic.forEach((_, partition) => {
      this.positions[partition] = this.committed.get(partition)?.offset ?? 0n;
    });
    this.batch.assigned(
      this.topic.map((messages, partition) => ({
        topic: 'orders.batch',
        partition,
        generation: 1,
        committed: this.committed.get(partition) ?? null,
        earliest: 0n,
        latest: BigInt(messages.length),
      })),
      this.context,
    );
  }

  /** Up to so many messages of each partition. */
  read(count: number): TestWork[] {
    return this.topic.flatMap((messages, partition) => {
      const from = this.positions[partition] ?? 0n;
      const taken = messages.slice(Number(from), Number(from) + count);
      this.positions[partition] = from + BigInt(taken.length);
      return taken.length === 0 ? [] : [workOf('orders.batch', partition, from, taken)];
    });
  }

  step(count = 0): Promise<StepResult | null> {
    return this.batch.step(this.read(count), this.context);
  }

  /** The transaction goes through: its offsets are committed, and fusion gets its partials. */
  async commit(result: StepResult | null): Promise<Partial[]> {
    const partials: Partial[] = [];
    const assemblers = new Map<number, PartialAssembler>();
    for (const { topic, partition, value } of result?.messages ?? []) {
      expect(topic).toBe('orders.results');
      if (value && isTelemetry(value)) {
        this.telemetry.push(decodeTelemetry(value));
        continue;
      }
      const assembler = assemblers.get(partition) ?? new PartialAssembler();
      assemblers.set(partition, assembler);
      const partial = assembler.add(value ?? Buffer.alloc(0), 0n);
      if (partial !== null) {
        this.#merge(partial);
        partials.push(partial);
      }
    }
    for (const { partition, offset, metadata } of result?.offsets ?? []) {
      expect(offset).toBeGreaterThanOrEqual(this.committed.get(partition)?.offset ?? 0n);
      this.committed.set(partition, { offset, metadata: metadata ?? '' });
    }
    await result?.committed?.();
    if (vi.isFakeTimers()) {
      vi.setSystemTime(Date.now() + 1000);
    }
    return partials;
  }

  #merge(partial: Partial): void {
    expect(judge(this.next[partial.partition] ?? 0n, partial)).toBe('merge');
    this.next[partial.partition] = partial.to;
    this.merged.push(partial);
    for (const { text } of partial.tables) {
      this.rows.push(...text.toString().split('\n').slice(0, -1));
    }
  }

  /** Steps until a run that begins now is over, and nothing is left. */
  async drain(): Promise<void> {
    await this.commit(await this.step(1000));
    this.now += every;
    for (let result: StepResult | null; (result = await this.step()) !== null;) {
      await this.commit(result);
      this.now += 1000;
    }
  }
}

/** Blocks that tile a partition, with that many records each, behind as many that went elsewhere. */
function blocks(
  partition: number,
  records: readonly number[],
  definitions: readonly string[] = ['v1'],
): Block[] {
  let from = 0n;
  return records.map((count, i) => {
    const first = from;
    const lines = Array.from(
      { length: count },
      (_, line) => `${partition}:${first + BigInt(line)}`,
    );
    const definition = definitions[Math.min(i, definitions.length - 1)] ?? 'v1';
    const block = testBlock(
      { partition, from, to: from + BigInt(count + 1), definition, producedAt: BigInt(i + 1) },
      lines,
    );
    from = block.to;
    return block;
  });
}

const linesOf = (partitions: readonly (readonly Block[])[]): string[] =>
  partitions.flat().flatMap(({ payload }) => payload.toString().split('\n').slice(0, -1));

const two = [blocks(0, [3, 0, 2, 5]), blocks(1, [1, 4])];
let model: Model;
beforeEach(async () => {
  for (const file of await readdir(directory)) {
    await rm(path.join(directory, file));
  }
  model = new Model(two);
  model.start(30);
});

describe('a run', () => {
  it('stores a fixed cut in slices, each with its offsets, and then its end', async () => {
    expect(await model.step(2)).toBeNull();
    model.now += every;
    const first = await model.step();
    // Later blocks wait for the next run.
    const runs: Partial[][] = [await model.commit(first)];
    for (let result: StepResult | null; (result = await model.step(2)) !== null;) {
      runs.push(await model.commit(result));
    }
    expect(model.rows.toSorted()).toEqual(linesOf([two[0]!.slice(0, 2), two[1]!]).toSorted());
    expect(runs.length).toBeGreaterThan(2);
    const shares = runs.flat().map(({ run }) => run);
    expect(new Set(shares.map((share) => share?.id)).size).toBe(1);
    expect(shares.map((share) => share?.finishedAt !== null)).toEqual([
      ...Array<boolean>(shares.length - 1).fill(false),
      true,
    ]);
    expect(model.woken).toBe(runs.length - 1);
  });

  it.each([
    ['a partition', 30],
    ['all partitions', 1_000_000],
  ])(
    'leaves a record that is complete, in slices of %s: each record and second once',
    async (_, sliceBytes) => {
      model.start(sliceBytes);
      await model.drain();
      const shares = model.merged.flatMap(({ run }) => run ?? []);
      const sum = (pick: (share: (typeof shares)[number]) => number | bigint): number =>
        shares.reduce((total, share) => total + Number(pick(share)), 0);
      const all = linesOf(two);
      expect(sum(({ records }) => records)).toBe(all.length);
      expect(sum(({ rows }) => rows)).toBe(all.length);
      expect(sum(({ bytes }) => bytes)).toBe(all.join('\n').length + 1);
      const slices = shares.filter(({ process }) => process > 0).length;
      expect(sum(({ preprocess }) => preprocess)).toBe(2 * slices);
      expect(sum(({ load }) => load)).toBeGreaterThan(slices);
      expect(sum(({ store }) => store)).toBeGreaterThan(4 * slices);
      expect(shares.every(({ trigger, startedAt }) => trigger === 'every' && startedAt > 0n)).toBe(
        true,
      );
      expect(shares.at(-1)?.finishedAt).not.toBeNull();
    },
  );

  it('leaves no file behind', async () => {
    await model.drain();
    expect(model.rows).toHaveLength(linesOf(two).length);
    expect(await readdir(directory)).toEqual([]);
  });

  it('commits an offset with everything it sends, so that a zombie is fenced', async () => {
    await model.step(1000);
    model.now += every;
    for (let result: StepResult | null; (result = await model.step()) !== null;) {
      expect(result.offsets.length).toBeGreaterThan(0);
      await model.commit(result);
    }
  });

  it('is not begun for nothing', async () => {
    model.now += every;
    expect(await model.step()).toBeNull();
    expect(await model.step(1)).toBeNull();
    model.now += every - 1;
    expect(await model.step()).toBeNull();
    model.now += 1;
    expect(await model.step()).not.toBeNull();
  });
});

it('a freshness lets a run begin when half of its time has passed, as long as nothing is known of its cost', async () => {
  const fresh = new Model(two);
  const source = {
    ...plan.source,
    batch: { ...plan.source.batch, every: null, freshWithin: every },
  };
  fresh.start(1_000_000, { ...plan, source });
  fresh.now += 10 * every;
  expect(await fresh.step(1)).toBeNull();
  fresh.now += every / 2 - 1;
  expect(await fresh.step()).toBeNull();
  fresh.now += 1;
  await fresh.commit(await fresh.step());
  expect(fresh.merged[0]?.run?.trigger).toBe('fresh_within');
  expect(fresh.telemetry.flatMap(({ decisions }) => decisions)).toMatchObject([
    { kind: 'run', decision: 'begin', source: 'orders' },
  ]);
  await fresh.batch.revoked();
});

describe('costs', () => {
  beforeEach(() => {
    vi.useFakeTimers({ toFake: ['Date'] });
  });
  afterEach(() => {
    vi.useRealTimers();
  });

  const costs = () => model.telemetry.flatMap((telemetry) => telemetry.costs);

  it('of its slices are told once, with what the table took of them', async () => {
    await model.drain();
    // The last slice's go with the end of the run.
    expect(costs().reduce((sum, { steps }) => sum + steps, 0n)).toBe(
      BigInt(new Set(model.merged.filter(({ run }) => (run?.process ?? 0) > 0)).size),
    );
    const tables = costs().flatMap((cost) => cost.tables);
    expect(tables.reduce((sum, { records }) => sum + records, 0n)).toBe(
      BigInt(linesOf(two).length),
    );
    expect(tables.every(({ table }) => table === 'clean')).toBe(true);
  });

  it('are told again when the transaction that carried them failed', async () => {
    await model.step(1000);
    model.now += every;
    await model.commit(await model.step());
    const lost = await model.step();
    expect(lost?.messages.length).toBeGreaterThan(0);
    await model.batch.revoked();
    model.assign();
    await model.drain();
    expect(model.rows.toSorted()).toEqual(linesOf(two).toSorted());
    expect(costs().reduce((sum, { records }) => sum + records, 0n)).toBe(
      BigInt(linesOf(two).length),
    );
  });
});

describe('partitions that are taken away', () => {
  it('leave nothing behind: no record, no file, no run', async () => {
    await model.step(1000);
    model.now += every;
    await model.commit(await model.step());
    expect((await readdir(directory)).length).toBeGreaterThan(0);
    await model.batch.revoked();
    expect(await readdir(directory)).toEqual([]);
    model.now += every;
    expect(await model.step()).toBeNull();
  });

  it('and any crash, anywhere, repeat nothing and lose nothing', async () => {
    const sizes = fc.array(fc.nat({ max: 4 }), { maxLength: 10 });
    await fc.assert(
      fc.asyncProperty(
        fc.array(sizes, { minLength: 1, maxLength: 3 }),
        fc.array(
          fc.record({
            read: fc.nat({ max: 4 }),
            wait: fc.constantFrom(0, 0, 1000, every),
            outcome: fc.constantFrom('commit', 'commit', 'commit', 'killed', 'revoked', 'unknown'),
          }),
          { maxLength: 25 },
        ),
        fc.constantFrom(1, 25, 1_000_000),
        fc.constantFrom(['v1'], ['v1', 'v1', 'v2'], ['v1', 'v2', 'v3']),
        async (shape, moves, sliceBytes, definitions) => {
          const partitions = shape.map((records, partition) =>
            blocks(partition, records, definitions),
          );
          const any = new Model(partitions);
          any.start(sliceBytes);
          for (const { read, wait, outcome } of moves) {
            any.now += wait;
            const result = await any.step(read);
            if (outcome === 'commit') {
              await any.commit(result);
              continue;
            }
            if (outcome === 'unknown' && result !== null) {
              // It went through, but the service never learned that.
              await any.commit({ messages: result.messages, offsets: result.offsets });
            }
            if (outcome === 'killed') {
              any.start(sliceBytes);
            } else {
              await any.batch.revoked();
              any.assign();
            }
          }
          await any.drain();
          expect(any.rows.toSorted()).toEqual(linesOf(partitions).toSorted());
          expect(any.next).toEqual(partitions.map((all) => all.at(-1)?.to ?? 0n));
          expect(any.halted).toEqual([]);
        },
      ),
      { numRuns: 60 },
    );
  });
});

describe('ranges without a record', () => {
  it('flow without a run, once a second, and are told', async () => {
    const empty = new Model([blocks(0, [0, 0, 0, 0])]);
    empty.start();
    const [partial] = await empty.commit(await empty.step(2));
    expect(partial).toMatchObject({ from: 0n, to: 2n, tables: [], run: null });
    expect(empty.told).toEqual([[0, 2]]);
    expect(await empty.step(2)).toBeNull();
    empty.now += 1000;
    const [next] = await empty.commit(await empty.step());
    expect(next).toMatchObject({ from: 2n, to: 4n });
    expect(empty.committed.get(0)).toEqual({ offset: 4n, metadata: 'next=4' });
  });

  it('wait with the records that are in front of them', async () => {
    const mixed = new Model([blocks(0, [1, 0, 0])]);
    mixed.start();
    expect(await mixed.step(2)).toBeNull();
    mixed.now += 5000;
    expect(await mixed.step(1)).toBeNull();
    await mixed.drain();
    expect(mixed.next).toEqual([3n + 1n]);
  });

  it('keep their definitions apart', async () => {
    const upgraded = new Model([blocks(0, [0, 0, 0], ['v1', 'v2'])]);
    upgraded.start();
    const partials = await upgraded.commit(await upgraded.step(3));
    expect(partials.map(({ definition, from, to }) => [definition, from, to])).toEqual([
      ['v1', 0n, 1n],
      ['v2', 1n, 3n],
    ]);
    expect(upgraded.committed.get(0)).toEqual({ offset: 3n, metadata: 'next=3' });
  });
});

it('a block that is missing halts its partition, while the others go on', async () => {
  const broken = new Model([[...two[0]!.slice(0, 1), ...two[0]!.slice(2)], two[1]!]);
  broken.start();
  await broken.drain();
  expect(broken.halted).toHaveLength(1);
  expect(broken.halted[0]).toContain('orders.batch/0: ');
  expect(broken.rows.toSorted()).toEqual(linesOf([two[0]!.slice(0, 1), two[1]!]).toSorted());
});
