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
import { createMetrics, type Log, Tracer } from '@anabranch/service';
import fc from 'fast-check';
import { afterEach, beforeEach, describe, expect, it, vi } from 'vitest';
import { SourceStream } from './source-stream.ts';

const plan = {
  source: { name: 'orders', topic: 'orders' },
  tables: [{ table: { name: 'clean', hash: 'h', latency: 500 } }],
} as unknown as SourcePlan;

/** The stream topic, what the group has committed, and what fusion would make of the results. */
class Model {
  readonly topic: Buffer[][];
  readonly committed = new Map<number, { offset: bigint; metadata: string }>();
  readonly next: bigint[];
  readonly positions: bigint[];
  readonly merged: Partial[] = [];
  readonly telemetry: Telemetry[] = [];
  readonly limits = { stepMilliseconds: 50, stepBytes: 8_388_608 };
  readonly rows: string[] = [];
  readonly told: [number, number][] = [];
  readonly halted: string[] = [];
  readonly metrics = createMetrics('stream-processor', '0');
  queries = 0;
  fail = false;
  stream = this.#process();
  readonly context: StepContext = {
    generation: 1,
    signal: new AbortController().signal,
    halt: (topic, partition, reason) => this.halted.push(`${topic}/${partition}: ${reason}`),
    wake: () => {},
  };

  constructor(partitions: readonly (readonly Block[])[]) {
    this.topic = partitions.map((all) => all.map(encodeBlock));
    this.next = partitions.map(() => 0n);
    this.positions = partitions.map(() => 0n);
    this.assign();
  }

  /** A new process, as it begins after a kill: from what is committed. */
  restart(): void {
    this.stream = this.#process();
    this.assign();
  }

  /** A table's rows are the records; the real one takes seconds, too. */
  #process(): SourceStream {
    const processor = {
      process: (texts: readonly TextBlock[]) => {
        this.queries++;
        if (this.fail) {
          return Promise.reject(new Error('out of memory'));
        }
        const partitions = [...new Set(texts.map(({ partition }) => partition))];
        return Promise.resolve({
          tables: partitions.map((partition) => {
            const text = Buffer.concat(
              texts.filter((block) => block.partition === partition).map((block) => block.text),
            );
            const rows = text.toString().split('\n').length - 1;
            return {
              name: 'clean',
              partition,
              read: rows,
              filtered: 0,
              aggregated: rows,
              dead: 0,
              rows,
              text,
            };
          }),
          deadLetters: [],
          seconds: { load: 1, preprocess: 2, process: 3, store: 4 },
          tableSeconds: new Map([['clean', 9]]),
        });
      },
    } as unknown as Processor;
    return new SourceStream({
      plan,
      processor,
      instance: 'one',
      log: { info: () => {} } as unknown as Log,
      limits: this.limits,
      metrics: this.metrics,
      tracer: Tracer.off,
      processed: (partition, producedAt) => this.told.push([partition, producedAt]),
    });
  }

  assign(): void {
    this.topic.forEach((_, partition) => {
      this.positions[partition] = this.committed.get(partition)?.offset ?? 0n;
    });
    this.stream.assigned(
      this.topic.map((messages, partition) => ({
        topic: 'orders.stream',
        partition,
        generation: 1,
        committed: this.committed.get(partition) ?? null,
        earliest: 0n,
        latest: BigInt(messages.length),
      })),
      this.context,
    );
  }

  step(count: number): Promise<StepResult | null> {
    const work = this.topic.flatMap((messages, partition): TestWork[] => {
      const from = this.positions[partition] ?? 0n;
      const taken = messages.slice(Number(from), Number(from) + count);
      this.positions[partition] = from + BigInt(taken.length);
      return taken.length === 0 ? [] : [workOf('orders.stream', partition, from, taken)];
    });
    return this.stream.step(work, this.context);
  }

  /** The transaction goes through: its offsets are committed, and fusion gets its partials. */
  async commit(result: StepResult | null): Promise<Partial[]> {
    const partials: Partial[] = [];
    for (const { topic, value } of result?.messages ?? []) {
      expect(topic).toBe('orders.results');
      if (value && isTelemetry(value)) {
        this.telemetry.push(decodeTelemetry(value));
        continue;
      }
      const partial = new PartialAssembler().add(value ?? Buffer.alloc(0), 0n);
      if (partial !== null) {
        expect(judge(this.next[partial.partition] ?? 0n, partial)).toBe('merge');
        this.next[partial.partition] = partial.to;
        partials.push(partial);
        for (const { text } of partial.tables) {
          this.rows.push(...text.toString().split('\n').slice(0, -1));
        }
      }
    }
    for (const { partition, offset, metadata } of result?.offsets ?? []) {
      this.committed.set(partition, { offset, metadata: metadata ?? '' });
    }
    await result?.committed?.();
    this.merged.push(...partials);
    if (vi.isFakeTimers()) {
      vi.setSystemTime(Date.now() + 1000);
    }
    return partials;
  }
}

/** Blocks that tile a partition, with that many records each. */
function blocks(partition: number, records: readonly number[], definitions = ['v1']): Block[] {
  let from = 0n;
  return records.map((count, i) => {
    const first = from;
    const lines = Array.from(
      { length: count },
      (_, line) => `${partition}:${first + BigInt(line)}`,
    );
    const definition = definitions[Math.min(i, definitions.length - 1)] ?? 'v1';
    const to = from + BigInt(count + 1);
    const producedAt = BigInt(i + 1);
    const block = testBlock({ partition, from, to, definition, producedAt }, lines);
    from = block.to;
    return block;
  });
}

const linesOf = (partitions: readonly (readonly Block[])[]): string[] =>
  partitions.flat().flatMap(({ payload }) => payload.toString().split('\n').slice(0, -1));

describe('a step', () => {
  it('makes one partial of all blocks of a partition, in one query', async () => {
    const two = [blocks(0, [2, 0, 1]), blocks(1, [1])];
    const model = new Model(two);
    const partials = await model.commit(await model.step(10));
    expect(partials.map(({ partition, from, to }) => [partition, from, to])).toEqual([
      [0, 0n, 6n],
      [1, 0n, 2n],
    ]);
    expect(model.rows).toEqual(linesOf(two));
    expect(model.queries).toBe(1);
    expect(model.told).toEqual([
      [0, 3],
      [1, 1],
    ]);
  });

  it('moves the frontier over ranges without a record, and asks DuckDB nothing', async () => {
    const model = new Model([blocks(0, [0, 0])]);
    const [partial] = await model.commit(await model.step(2));
    expect(partial).toMatchObject({ from: 0n, to: 2n, tables: [], branch: 'stream', run: null });
    expect(model.queries).toBe(0);
  });

  it('keeps definitions apart, and commits behind the last', async () => {
    const model = new Model([blocks(0, [1, 1, 1], ['v1', 'v2']), blocks(1, [1])]);
    const partials = await model.commit(await model.step(3));
    expect(partials.map(({ partition, definition, to }) => [partition, definition, to])).toEqual([
      [0, 'v1', 2n],
      [1, 'v1', 2n],
      [0, 'v2', 6n],
    ]);
    expect(model.committed.get(0)).toEqual({ offset: 3n, metadata: 'next=6' });
  });

  it('has nothing to commit without work', async () => {
    expect(await new Model([[]]).step(1)).toBeNull();
  });
});

describe('costs', () => {
  beforeEach(() => {
    vi.useFakeTimers({ toFake: ['Date'] });
  });
  afterEach(() => {
    vi.useRealTimers();
  });

  const records = ({ telemetry }: Model): number[] =>
    telemetry.flatMap(({ costs }) => costs.map((cost) => Number(cost.records)));

  it('of each step are sent once, with the next one, whatever it took', async () => {
    const model = new Model([blocks(0, [1, 2, 3, 0]), blocks(1, [1, 1, 1, 0])]);
    for (let i = 0; i < 4; i++) {
      await model.commit(await model.step(1));
    }
    expect(records(model)).toEqual([2, 3, 4]);
    const [cost] = model.telemetry.flatMap(({ costs }) => costs);
    expect(cost).toMatchObject({
      service: 'stream-processor',
      instance: 'one',
      source: 'orders',
      branch: 'stream',
      steps: 1n,
      rows: 2n,
      preprocess: 2,
      process: 3,
      tables: [{ table: 'clean', records: 2n, rows: 2n, seconds: 9 }],
    });
    expect(cost?.load).toBeGreaterThanOrEqual(1);
    expect(cost?.store).toBeGreaterThanOrEqual(4);
  });

  it('are sent again when the transaction that carried them failed, and kept over replays', async () => {
    const model = new Model([blocks(0, [1, 2])]);
    await model.commit(await model.step(1));
    expect((await model.step(1))?.messages).toHaveLength(2);
    // That one is lost. The next step reads nothing but a replay.
    model.committed.set(0, { offset: 0n, metadata: 'next=2' });
    model.stream.revoked();
    model.assign();
    vi.setSystemTime(Date.now() + 1000);
    expect((await model.commit(await model.step(1))).length).toBe(0);
    expect(records(model)[0]).toBe(1);
  });

  it('are predicted after a restart from what was learnt before it, and the latency goal followed', async () => {
    const model = new Model([blocks(0, Array<number>(30).fill(5))]);
    for (let i = 0; i < 12; i++) {
      await model.commit(await model.step(1));
    }
    expect(model.committed.get(0)?.metadata).toMatch(/^next=\d+ by=one cost=/);
    model.restart();
    await model.commit(await model.step(1));
    await model.commit(await model.step(1));
    const costs = model.telemetry.flatMap((telemetry) => telemetry.costs);
    expect(costs.at(-1)).toMatchObject({ steps: 1n, predictedSteps: 1n });
    // A step takes ten seconds: whatever is gathered, the goal is missed.
    expect(model.limits.stepMilliseconds).toBe(250);
    const decisions = model.telemetry.flatMap((telemetry) => telemetry.decisions);
    expect(decisions[0]).toMatchObject({
      kind: 'micro-batch',
      decision: `gather 250 ms, at most ${model.limits.stepBytes} bytes`,
    });
    expect(JSON.parse(decisions[0]?.figures ?? '')).toMatchObject({ goalMilliseconds: 500 });
  });
});

it('records are counted only once they are committed', async () => {
  const model = new Model([blocks(0, [2])]);
  const counted = async (): Promise<string | undefined> =>
    /^\S*records_total\{.*fate="aggregated".*\} (\d+)$/m.exec(await model.metrics.page.text())?.[1];
  const result = await model.step(1);
  expect(await counted()).toBeUndefined();
  await result?.committed?.();
  expect(await counted()).toBe('2');
});

it('crashes, failures and commits of unknown outcome repeat nothing and lose nothing', async () => {
  await fc.assert(
    fc.asyncProperty(
      fc.array(fc.array(fc.nat({ max: 4 }), { maxLength: 10 }), { minLength: 1, maxLength: 3 }),
      fc.array(
        fc.record({
          read: fc.nat({ max: 4 }),
          outcome: fc.constantFrom('commit', 'commit', 'killed', 'revoked', 'unknown', 'failed'),
        }),
        { maxLength: 20 },
      ),
      fc.constantFrom(['v1'], ['v1', 'v1', 'v2'], ['v1', 'v2', 'v3']),
      async (shape, moves, definitions) => {
        const partitions = shape.map((sizes, partition) =>
          blocks(partition, sizes, [...definitions]),
        );
        const model = new Model(partitions);
        for (const { read, outcome } of moves) {
          model.fail = outcome === 'failed';
          const result = await model.step(read).catch(() => null);
          model.fail = false;
          if (outcome === 'commit') {
            await model.commit(result);
            continue;
          }
          if (outcome === 'unknown' && result !== null) {
            await model.commit({ messages: result.messages, offsets: result.offsets });
          }
          if (outcome === 'killed') {
            model.restart();
          } else {
            model.stream.revoked();
            model.assign();
          }
        }
        await model.commit(await model.step(1000));
        expect(model.rows.toSorted()).toEqual(linesOf(partitions).toSorted());
        expect(model.next).toEqual(partitions.map((all) => all.at(-1)?.to ?? 0n));
        expect(model.halted).toEqual([]);
      },
    ),
  );
});

it('a block that is missing halts its partition, while the others go on', async () => {
  const two = [blocks(0, [1, 1, 1]), blocks(1, [1])];
  const model = new Model([two[0]?.toSpliced(1, 1) ?? [], two[1] ?? []]);
  await model.commit(await model.step(10));
  expect(model.halted).toHaveLength(1);
  expect(model.halted[0]).toContain('orders.stream/0: ');
  expect(model.next).toEqual([2n, 2n]);
});
