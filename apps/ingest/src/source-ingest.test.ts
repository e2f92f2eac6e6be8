import type { Classified, Classifier, RecordBlock, SourcePlan } from '@anabranch/compute';
import {
  type Block,
  decodeBlock,
  decodeDeadLetters,
  decodeIngestPosition,
  decodeTelemetry,
  encodeIngestPosition,
  encodeProcessorPosition,
  isTelemetry,
  withCost,
} from '@anabranch/contract';
import { recordBatch, type TestRecord, type TestWork } from '@anabranch/contract/testing';
import type { AssignedPartition, StepContext, StepResult } from '@anabranch/kafka';
import { processorUnits, StepModel } from '@anabranch/cost';
import { createMetrics, Tracer } from '@anabranch/service';
import fc from 'fast-check';
import { beforeEach, describe, expect, it } from 'vitest';
import { SourceIngest, type SourceIngestOptions } from './source-ingest.ts';

const second = 1_000_000n;
const idleTimeout = 10_000;

/** What the fake classifier understands: `<event time in seconds> <late rule?>`, or `dead`. */
const plan = {
  source: {
    name: 'orders',
    topic: 'orders',
    hash: 'v1',
    disorder: 1000,
    maxSkew: 60_000,
    idleTimeout,
    maxRecordBytes: 100,
    split: [{ name: 'late', to: 'batch' }],
    defaultBranch: 'stream',
  },
  usesTimestamps: false,
  usesBytes: false,
  headerNames: [],
  tables: [],
} as unknown as SourcePlan;

/** Late is what lies behind the largest event time in front of it, as the real one judges. */
function classifyOne({ partition, text, highest: before }: RecordBlock): Classified {
  const positions: number[] = [];
  const verdicts: number[] = [];
  const rules = [0, 0];
  let highest = before;
  const values = text.toString().split('\n').slice(0, -1);
  values.forEach((value, i) => {
    if (value === 'dead') {
      positions.push(i);
      verdicts.push(-1);
      return;
    }
    const time = BigInt(value) * second;
    const rule = highest !== null && time < highest ? 0 : 1;
    rules[rule] = (rules[rule] ?? 0) + 1;
    if (rule === 0) {
      positions.push(i);
      verdicts.push(0);
    }
    highest = highest === null || time > highest ? time : highest;
  });
  return {
    partition,
    highest,
    rules,
    dead: verdicts.filter((verdict) => verdict < 0).length,
    exceptions: { positions: Uint32Array.from(positions), verdicts: Int16Array.from(verdicts) },
    reasons: [{ code: 'malformed', detail: 'It is dead.' }],
  };
}

const begun = 1_000_000_000n;

class Harness {
  now = Number(begun);
  ends = new Map<number, bigint>();
  endsFail = false;
  asked = 0;
  readonly halted: string[] = [];
  woken = 0;
  readonly told: [number, number][] = [];
  readonly metrics = createMetrics('ingest', '0');
  readonly ingest: SourceIngest;
  readonly context: StepContext = {
    generation: 1,
    signal: new AbortController().signal,
    halt: (topic, partition, reason) => this.halted.push(`${topic}/${partition}: ${reason}`),
    wake: () => {
      this.woken++;
    },
  };

  constructor(options: Partial<SourceIngestOptions> = {}) {
    this.ingest = new SourceIngest({
      plan,
      classifier: {
        classify: (blocks: readonly RecordBlock[]) => {
          expect(new Set(blocks.map(({ partition }) => partition)).size).toBe(blocks.length);
          expect(blocks.every(({ count }) => count > 0)).toBe(true);
          return Promise.resolve(blocks.map(classifyOne));
        },
      } as unknown as Classifier,
      instance: 'one',
      log: { info: () => undefined, repeat: () => undefined },
      stepBytes: 4_000_000,
      streamPositions: () => Promise.resolve([]),
      metrics: this.metrics,
      tracer: Tracer.off,
      prepareTopics: () => Promise.resolve(),
      ends: () => {
        this.asked++;
        return this.endsFail ? Promise.reject(new Error('away')) : Promise.resolve(this.ends);
      },
      processed: (partition, producedAt) => this.told.push([partition, producedAt]),
      now: () => this.now,
      blockBytes: 1_000_000,
      ...options,
    });
  }

  async assign(...partitions: Partial<AssignedPartition>[]): Promise<void> {
    await this.ingest.assigned(
      partitions.map((partition) => ({
        topic: 'orders',
        partition: 0,
        generation: 1,
        committed: null,
        earliest: 0n,
        latest: 0n,
        ...partition,
      })),
      this.context,
    );
  }

  step(...pieces: TestWork[]): Promise<StepResult | null> {
    return this.ingest.step(pieces, this.context);
  }

  /** A step of which the transaction goes through. */
  async commit(...pieces: TestWork[]): Promise<StepResult | null> {
    const result = await this.step(...pieces);
    await result?.committed?.();
    return result;
  }

  /** As long passes as a partition needs to count as idle; then two steps, as one wakes the next. */
  async idle(): Promise<StepResult | null> {
    this.now += idleTimeout;
    expect(await this.commit()).toBeNull();
    await Promise.resolve();
    return this.commit();
  }
}

function work(values: readonly string[], from = 0, more: Partial<TestWork> = {}): TestWork {
  const records = values.map((value, i): TestRecord => ({
    offset: from + i,
    value: value === 'null' ? null : Buffer.from(value),
    timestamp: 5000 + from + i,
  }));
  const batch = recordBatch(records);
  return {
    topic: 'orders',
    partition: 0,
    batches: values.length === 0 ? [] : [batch],
    from: BigInt(from),
    next: BigInt(from + values.length),
    bytes: batch.length,
    highWatermark: 1000n,
    ...more,
  };
}

function blocksOf(result: StepResult | null, topic: string): Block[] {
  return (result?.messages ?? [])
    .filter((message) => message.topic === topic)
    .map(({ value }) => decodeBlock(value ?? Buffer.alloc(0)));
}

const summary = ({ from, to, payload }: Block): [bigint, bigint, string] => [
  from,
  to,
  payload.toString(),
];

describe('a step', () => {
  it('writes to both branches a block for the range it commits, and dead letters beside', async () => {
    const harness = new Harness();
    await harness.assign({ earliest: 7n });
    const result = await harness.commit(
      work(['100', 'null', '50', 'dead', '200'], 7, { next: 15n }),
    );
    expect(blocksOf(result, 'orders.stream').map(summary)).toEqual([[7n, 15n, '100\n200\n']]);
    expect(blocksOf(result, 'orders.batch').map(summary)).toEqual([[7n, 15n, '50\n']]);
    const [block] = blocksOf(result, 'orders.stream');
    expect(block).toMatchObject({
      origin: 7n,
      watermark: 199n * second,
      definition: 'v1',
      producedAt: 5011n,
      split: { stream: 2n, batch: 1n, dead: 2n, rules: [1n, 2n] },
    });
    const letters = (result?.messages ?? [])
      .filter(({ topic }) => topic === 'orders.dead')
      .flatMap(({ value }) => decodeDeadLetters(value ?? Buffer.alloc(0)).letters);
    expect(letters.map(({ offset, code, value }) => [offset, code, value?.toString()])).toEqual([
      [8n, 'tombstone', undefined],
      [10n, 'malformed', 'dead'],
    ]);
    expect(result?.offsets).toEqual([
      {
        topic: 'orders',
        partition: 0,
        offset: 15n,
        metadata: encodeIngestPosition({
          epoch: begun,
          origin: 7n,
          highest: 200n * second,
          diverting: false,
        }),
      },
    ]);
    expect(harness.told).toEqual([[0, 5011]]);
  });

  it('stamps all blocks with the epoch in which it began, and begins another one where its offset is gone', async () => {
    const harness = new Harness();
    await harness.assign({});
    const first = await harness.commit(work(['5']));
    harness.now += 1000;
    const { offset = 0n, metadata = '' } = first?.offsets[0] ?? {};
    await harness.assign({ committed: { offset, metadata } });
    const again = await harness.commit(work(['6'], 1));
    await harness.assign({});
    const anew = await harness.commit(work(['7']));
    const epochs = [first, again, anew].map((result) =>
      ['orders.stream', 'orders.batch'].map((topic) => blocksOf(result, topic)[0]?.epoch),
    );
    expect(epochs).toEqual([
      [begun, begun],
      [begun, begun],
      [begun + 1000n, begun + 1000n],
    ]);
  });

  it('accounts for a range of markers only, without asking DuckDB', async () => {
    const harness = new Harness();
    await harness.assign({});
    const result = await harness.commit(work([], 0, { next: 4n }));
    for (const topic of ['orders.stream', 'orders.batch']) {
      expect(blocksOf(result, topic).map(summary)).toEqual([[0n, 4n, '']]);
    }
    expect(blocksOf(result, 'orders.stream')[0]?.split.rules).toEqual([0n, 0n]);
    expect(result?.offsets[0]?.offset).toBe(4n);
  });

  it('has nothing to commit without work', async () => {
    const harness = new Harness();
    await harness.assign({});
    expect(await harness.step()).toBeNull();
  });

  it('takes a producer with a wrong clock', async () => {
    const harness = new Harness();
    await harness.assign({});
    const records = [2 ** 62, -(2 ** 62)].map((timestamp, offset) => ({
      offset,
      timestamp,
      value: Buffer.from('1'),
    }));
    const result = await harness.commit(work(['1', '1'], 0, { batches: [recordBatch(records)] }));
    expect(blocksOf(result, 'orders.stream')[0]?.producedAt).toBe(BigInt(harness.now));
  });

  it('counts records only once they are committed', async () => {
    const harness = new Harness();
    await harness.assign({});
    const counted = async (): Promise<string | undefined> =>
      /^\S*records_total\{.*fate="stream".*\} (\d+)$/m.exec(await harness.metrics.page.text())?.[1];
    const result = await harness.step(work(['1', '2']));
    expect(await counted()).toBeUndefined();
    await result?.committed?.();
    expect(await counted()).toBe('2');
  });
});

describe('coverage and verdicts', () => {
  const values = fc.array(
    fc.oneof(fc.nat({ max: 30 }).map(String), fc.constantFrom('dead', 'null')),
    { minLength: 1, maxLength: 40 },
  );

  /** The records' branches, and the frontier of each branch; checks that blocks tile. */
  function collect(results: readonly (StepResult | null)[]): Record<string, string[]> {
    const placed: Record<string, string[]> = {};
    for (const topic of ['orders.stream', 'orders.batch']) {
      let next = 0n;
      let watermark: bigint | null = null;
      const lines = (placed[topic] = [] as string[]);
      for (const block of results.flatMap((result) => blocksOf(result, topic))) {
        expect(block.from).toBe(next);
        next = block.to;
        expect(watermark === null || (block.watermark ?? -1n) >= watermark).toBe(true);
        ({ watermark } = block);
        const texts = block.payload.toString().split('\n').slice(0, -1);
        const offsets = block.runs.flatMap(({ start, count }) =>
          Array.from({ length: count }, (_, i) => start + BigInt(i)),
        );
        texts.forEach((text, i) => lines.push(`${offsets[i]}:${text}`));
      }
      lines.push(`next ${next}`);
    }
    return placed;
  }

  async function run(
    all: readonly string[],
    sizes: readonly number[],
    blockBytes: number,
    lostEvery: number,
  ): Promise<Record<string, string[]>> {
    const results: (StepResult | null)[] = [];
    let harness = new Harness({ blockBytes });
    await harness.assign({});
    let at = 0;
    for (let i = 0; at < all.length; i++) {
      const size = sizes[i % sizes.length] ?? 1;
      const piece = work(all.slice(at, at + size), at);
      if (lostEvery > 0 && i % lostEvery === 0) {
        // Its transaction fails; another instance goes on from what is committed.
        await harness.step(piece);
        const last = results.at(-1)?.offsets[0];
        harness = new Harness({ blockBytes });
        await harness.assign(
          last === undefined
            ? {}
            : { committed: { offset: last.offset, metadata: last.metadata ?? '' } },
        );
      }
      results.push(await harness.commit(piece));
      at += size;
    }
    return collect(results);
  }

  it('are the same wherever steps and blocks end, and whatever was lost and replayed', async () => {
    await fc.assert(
      fc.asyncProperty(
        values,
        fc.array(fc.integer({ min: 1, max: 9 }), { minLength: 1 }),
        fc.constantFrom(1, 20, 1_000_000),
        fc.nat({ max: 3 }),
        async (all, sizes, blockBytes, lostEvery) => {
          const whole = await run(all, [all.length], 1_000_000, 0);
          expect(await run(all, sizes, blockBytes, lostEvery)).toEqual(whole);
        },
      ),
      { numRuns: 60 },
    );
  });

  it('state moves only when the transaction is through', async () => {
    const harness = new Harness();
    await harness.assign({});
    const lost = await harness.step(work(['100']));
    const again = await harness.step(work(['50']));
    expect(blocksOf(lost, 'orders.stream')[0]?.from).toBe(0n);
    // In front of the lost one nothing was seen: 50 isn't late.
    expect(blocksOf(again, 'orders.stream').map(summary)).toEqual([[0n, 1n, '50\n']]);
    await again?.committed?.();
    const next = await harness.step(work(['40'], 1));
    expect(blocksOf(next, 'orders.batch').map(summary)).toEqual([[1n, 2n, '40\n']]);
  });

  it('a share that decompresses to a lot becomes several blocks with counts of their own', async () => {
    const harness = new Harness({ blockBytes: 6 });
    await harness.assign({}, { partition: 1 });
    const result = await harness.commit(
      work(['10', '20', '15', '12', '30']),
      work(['7'], 0, { partition: 1 }),
    );
    const blocks = blocksOf(result, 'orders.stream').filter(({ partition }) => partition === 0);
    expect(blocks.map(summary)).toEqual([
      [0n, 2n, '10\n20\n'],
      [2n, 4n, ''],
      [4n, 5n, '30\n'],
    ]);
    expect(blocks.map(({ split }) => split.rules)).toEqual([
      [0n, 2n],
      [2n, 0n],
      [0n, 1n],
    ]);
    expect(blocks.map(({ watermark }) => watermark)).toEqual([
      19n * second,
      19n * second,
      29n * second,
    ]);
    expect(result?.offsets.map(({ partition, offset }) => [partition, offset])).toEqual([
      [0, 5n],
      [1, 1n],
    ]);
  });
});

describe('what cannot be trusted halts its partition, and no other', () => {
  it('a committed offset that ingest did not write', async () => {
    const harness = new Harness();
    await harness.assign(
      { committed: { offset: 5n, metadata: '' } },
      { partition: 1, committed: { offset: 5n, metadata: 'origin=2 highest=none' } },
    );
    expect(harness.halted).toHaveLength(1);
    expect(harness.halted[0]).toContain('orders/0: the group');
    const result = await harness.commit(work(['1'], 5), work(['2'], 5, { partition: 1 }));
    expect(blocksOf(result, 'orders.stream').map(({ partition }) => partition)).toEqual([1]);
  });

  it('a damaged batch', async () => {
    const harness = new Harness();
    await harness.assign({}, { partition: 1 });
    const bad = work(['1']);
    bad.batches[0]?.writeUInt8(0xff, 64);
    const result = await harness.commit(bad, work(['2'], 0, { partition: 1 }));
    expect(harness.halted).toHaveLength(1);
    expect(harness.halted[0]).toContain('orders/0: A record batch');
    expect(result?.offsets.map(({ partition }) => partition)).toEqual([1]);
  });

  it('records that do not begin where the committed ones end', async () => {
    const harness = new Harness();
    await harness.assign({});
    await harness.commit(work(['1']));
    expect(await harness.step(work(['2'], 3))).toBeNull();
    expect(harness.halted).toEqual([
      'orders/0: orders/0: records from offset 3 were handed over, but 1 comes next.',
    ]);
  });
});

describe('an idle partition', () => {
  it('has its watermark follow the clock on both branches, in an empty range', async () => {
    const harness = new Harness();
    await harness.assign({});
    await harness.commit(work(['5']));
    harness.ends.set(0, 1n);
    const result = await harness.idle();
    const watermark = BigInt(harness.now - idleTimeout - 1000) * 1000n;
    for (const topic of ['orders.stream', 'orders.batch']) {
      const [block] = blocksOf(result, topic);
      expect(block).toMatchObject({ from: 1n, to: 1n, watermark, runs: [] });
    }
    expect(result?.offsets[0]?.offset).toBe(1n);
    // What it decides from now on is committed with it.
    expect(decodeIngestPosition(result?.offsets[0]?.metadata ?? '')).toEqual({
      epoch: begun,
      origin: 0n,
      highest: watermark + second,
      diverting: false,
    });
    const next = await harness.commit(work(['6'], 1));
    expect(blocksOf(next, 'orders.batch').map(summary)).toEqual([[1n, 2n, '6\n']]);
  });

  it('is one that never had a record, too', async () => {
    const harness = new Harness();
    await harness.assign({});
    harness.ends.set(0, 0n);
    expect(blocksOf(await harness.idle(), 'orders.stream')).toHaveLength(1);
  });

  it('is none that has something to read, however long nothing came of it', async () => {
    const harness = new Harness();
    await harness.assign({}, { partition: 1 });
    await harness.commit(work(['5']), work(['5'], 0, { partition: 1 }));
    harness.ends.set(0, 7n).set(1, 1n);
    const result = await harness.idle();
    expect(blocksOf(result, 'orders.stream').map(({ partition }) => partition)).toEqual([1]);
    const late = await harness.commit(work(['6'], 1));
    expect(blocksOf(late, 'orders.stream').map(summary)).toEqual([[1n, 2n, '6\n']]);
  });

  it('is none while a broker is away', async () => {
    const harness = new Harness();
    await harness.assign({});
    await harness.commit(work(['5']));
    harness.endsFail = true;
    expect(await harness.idle()).toBeNull();
    expect(await harness.idle()).toBeNull();
    expect(harness.woken).toBe(0);
    harness.endsFail = false;
    harness.ends.set(0, 1n);
    expect(blocksOf(await harness.idle(), 'orders.stream')).toHaveLength(1);
  });

  it('is none that has had a record within the timeout', async () => {
    const harness = new Harness();
    await harness.assign({});
    harness.ends.set(0, 1n);
    harness.now += idleTimeout - 1;
    await harness.commit(work(['5']));
    harness.now += idleTimeout - 1;
    expect(await harness.commit()).toBeNull();
    expect(harness.asked).toBe(0);
  });

  it('does not hold up the others: the brokers are asked once at a time, beside the steps', async () => {
    const never = new Promise<ReadonlyMap<number, bigint>>(() => {});
    let asked = 0;
    const harness = new Harness({
      ends: () => {
        asked++;
        return never;
      },
    });
    await harness.assign({}, { partition: 1 });
    harness.now += idleTimeout;
    const result = await harness.commit(work(['5']));
    expect(blocksOf(result, 'orders.stream')).toHaveLength(1);
    await harness.commit();
    expect(asked).toBe(1);
  });

  it('stays silent where the definition says never', async () => {
    const { source } = plan;
    const harness = new Harness({
      plan: { ...plan, source: { ...source, idleTimeout: null } },
    });
    await harness.assign({});
    harness.now += 1_000_000;
    expect(await harness.commit()).toBeNull();
    expect(harness.asked).toBe(0);
  });
});

it('nothing of a former assignment is left when partitions are taken away', async () => {
  const harness = new Harness();
  await harness.assign({});
  await harness.commit(work(['5']));
  harness.ingest.revoked();
  harness.now += idleTimeout;
  expect(await harness.commit(work(['6'], 1))).toBeNull();
});

describe('traces', () => {
  interface Sent {
    readonly traceId: string;
    readonly parentSpanId: string | null;
    readonly links: readonly object[];
    readonly attributes: Readonly<Record<string, unknown>>;
    readonly error: string | null;
  }
  const tracing = (): { sent: Sent[]; tracer: Tracer } => {
    const sent: Sent[] = [];
    const add = (span: Sent): unknown => sent.push(span);
    return { sent, tracer: new Tracer({ add, close: () => Promise.resolve() }, 1) };
  };
  const headersOf = (result: StepResult | null) =>
    (result?.messages ?? []).map(({ topic, headers }) => [topic, headers?.['traceparent']]);

  it('give both blocks of a range the same context, and a span once it is committed', async () => {
    const { sent, tracer } = tracing();
    const harness = new Harness({ tracer });
    await harness.assign({ earliest: 7n });
    const traceparent = `00-${'a'.repeat(32)}-${'b'.repeat(16)}-01`;
    const headers = [['traceparent', Buffer.from(traceparent)]] as const;
    const batch = recordBatch([
      { offset: 7, value: Buffer.from('100'), headers },
      { offset: 8, value: Buffer.from('50') },
    ]);
    const piece = { ...work([], 7), batches: [batch], next: 9n };
    const result = await harness.step(piece);
    const [[, context] = []] = headersOf(result);
    expect(context).toMatch(/^00-[0-9a-f]{32}-[0-9a-f]{16}-01$/);
    expect(headersOf(result)).toEqual([
      ['orders.stream', context],
      ['orders.batch', context],
    ]);
    expect(sent).toEqual([]);
    await result?.committed?.();
    expect(sent).toMatchObject([
      {
        traceId: context?.slice(3, 35),
        parentSpanId: null,
        links: [{ traceId: 'a'.repeat(32), spanId: 'b'.repeat(16) }],
        error: null,
        attributes: {
          'anabranch.source': 'orders',
          'anabranch.partition': 0n,
          'anabranch.from': 7n,
          'anabranch.to': 9n,
          'anabranch.records': 2n,
          'anabranch.bytes': 7n,
        },
      },
    ]);
  });

  it('say what was not committed, and give the replay the same context', async () => {
    const { sent, tracer } = tracing();
    const harness = new Harness({ tracer });
    await harness.assign({});
    const first = await harness.step(work(['1', '2']));
    expect(sent).toEqual([]);
    harness.ingest.revoked();
    expect(sent).toHaveLength(1);
    await harness.assign({});
    const again = await harness.commit(work(['1', '2', '3']));
    expect(headersOf(again)).toEqual(headersOf(first));
    expect(sent.map(({ error }) => error === null)).toEqual([false, true]);
  });

  it('are for ranges with records: an idle partition begins none', async () => {
    const { sent, tracer } = tracing();
    const harness = new Harness({ tracer });
    harness.ends.set(0, 1n);
    await harness.assign({});
    await harness.commit(work(['1']));
    const idle = await harness.idle();
    expect(headersOf(idle).filter(([topic]) => topic !== 'orders.results')).toEqual([
      ['orders.stream', undefined],
      ['orders.batch', undefined],
    ]);
    expect(sent).toHaveLength(1);
  });

  it('leave no mark on a message where they are off', async () => {
    const harness = new Harness();
    await harness.assign({});
    const result = await harness.commit(work(['1']));
    expect(result?.messages.map((message) => 'headers' in message)).toEqual([false, false]);
  });

  it("read a producer's header as it may be: broken, missing or of another kind", async () => {
    const { sent, tracer } = tracing();
    const harness = new Harness({ tracer });
    await harness.assign({});
    for (const [offset, value] of [null, Buffer.from('nonsense'), Buffer.of(0xff)].entries()) {
      const headers = [['traceparent', value]] as const;
      const batch = recordBatch([{ offset, value: Buffer.from('1'), headers }]);
      const piece = { ...work([], offset), batches: [batch], next: BigInt(offset + 1) };
      expect(await harness.commit(piece)).not.toBeNull();
    }
    expect(sent.map(({ links }) => links)).toEqual([[], [], []]);
  });
});

describe('rules that divert', () => {
  /** What the stream has accounted for, at a millisecond a record. */
  const streamAt = (next: bigint) => {
    const model = new StepModel(processorUnits);
    for (let i = 1; i <= 20; i++) {
      const stage = i * 0.025;
      const size = { bytes: i * 10_000, records: i * 100, rows: i * 100 };
      model.observe(size, { load: stage, preprocess: stage, process: stage, store: stage });
    }
    const metadata = withCost(encodeProcessorPosition({ next, epoch: 0n }), 'one', model.encode());
    return () => Promise.resolve([{ partition: 0, metadata }]);
  };
  const diverting = {
    ...plan,
    source: { ...plan.source, split: [{ name: 'late', to: 'batch', divert: true }] },
    tables: [{ table: { latency: 100 } }],
  } as unknown as SourcePlan;
  const told: boolean[] = [];
  const classifier = {
    classify: (blocks: readonly RecordBlock[]) => {
      told.push(...blocks.map((block) => block.diverting ?? false));
      return Promise.resolve(blocks.map(classifyOne));
    },
  } as unknown as Classifier;
  const harnessOf = () =>
    new Harness({ plan: diverting, classifier, streamPositions: streamAt(0n) });
  const committedIn = (result: StepResult | null) =>
    decodeIngestPosition(result?.offsets[0]?.metadata ?? '')?.diverting;
  const decisionsIn = (result: StepResult | null) =>
    (result?.messages ?? [])
      .filter(({ value }) => value && isTelemetry(value))
      .flatMap(({ value }) => decodeTelemetry(value ?? Buffer.alloc(0)).decisions);

  beforeEach(() => {
    told.length = 0;
  });

  /** Its stream is 500 records behind, which takes half a second. */
  async function behind(): Promise<{ harness: Harness; lost: StepResult | null }> {
    const harness = harnessOf();
    const state = { origin: 0n, highest: null, diverting: false, epoch: 0n };
    await harness.assign({ committed: { offset: 500n, metadata: encodeIngestPosition(state) } });
    await harness.commit(work(['1'], 500));
    // The brokers have answered meanwhile.
    await Promise.resolve();
    return { harness, lost: await harness.step(work(['2'], 501)) };
  }

  it('hold from the next step on, as committed with the offsets, with the figures in the same transaction', async () => {
    const { harness, lost } = await behind();
    expect(told).toEqual([false, false]);
    expect(committedIn(lost)).toBe(true);
    const [decision] = decisionsIn(lost);
    expect(decision).toMatchObject({ kind: 'divert', decision: 'on' });
    const { goalMilliseconds, delay, from } = JSON.parse(decision?.figures ?? '') as {
      goalMilliseconds: number;
      delay: number;
      from: Record<string, string>;
    };
    expect([goalMilliseconds, from]).toEqual([100, { 0: '502' }]);
    expect(delay).toBeCloseTo(0.5, 1);
    await lost?.committed?.();
    const next = await harness.commit(work(['3'], 502));
    expect(told.at(-1)).toBe(true);
    // Said once, not with each step.
    expect(decisionsIn(next)).toEqual([]);
  });

  it('are judged by a replay as they were before it', async () => {
    const { harness, lost } = await behind();
    // That transaction fails: what it decided counts for nothing, and nobody hears of it.
    const state = { origin: 0n, highest: second, diverting: false, epoch: 0n };
    await harness.assign({ committed: { offset: 501n, metadata: encodeIngestPosition(state) } });
    expect(decisionsIn(await harness.step(work(['2'], 501)))).toEqual([]);
    expect(told.at(-1)).toBe(false);
    // And this one goes through, for another instance to go on from.
    const other = harnessOf();
    const metadata = lost?.offsets[0]?.metadata ?? '';
    await other.assign({ committed: { offset: 502n, metadata } });
    const result = await other.step(work(['3'], 502));
    expect(told.at(-1)).toBe(true);
    expect(committedIn(result)).toBe(true);
    expect(decisionsIn(result)).toEqual([]);
  });
});
