import { decodeProcessorPosition, encodeBlock, encodeProcessorPosition } from '@anabranch/contract';
import { recordBatch, testBlock, type TestWork, workOf } from '@anabranch/contract/testing';
import type { AssignedPartition, StepContext } from '@anabranch/kafka';
import { createMetrics } from '@anabranch/service';
import { beforeEach, describe, expect, it } from 'vitest';
import { BlockIntake, type TakenBlocks } from './block-intake.ts';

const message = (from: bigint, to: bigint): Buffer => encodeBlock(testBlock({ from, to }));
const blocks = [message(0n, 2n), message(2n, 5n), message(5n, 5n), message(5n, 9n)];

let intake: BlockIntake;
let halted: string[];
const metrics = createMetrics('stream-processor', '0');
const context: StepContext = {
  generation: 1,
  signal: new AbortController().signal,
  halt: (topic, partition, reason) => halted.push(`${topic}/${partition}: ${reason}`),
  wake: () => {},
};

function assign(...partitions: Partial<AssignedPartition>[]): void {
  intake.assigned(
    partitions.map((partition) => ({
      topic: 'orders.stream',
      partition: 0,
      generation: 1,
      committed: null,
      earliest: 0n,
      latest: 0n,
      ...partition,
    })),
    context,
  );
}

const work = (from: bigint, values: readonly (Buffer | null)[], partition = 0): TestWork =>
  workOf('orders.stream', partition, from, values);

const summary = ({ partition, blocks: taken, from, offset, metadata }: TakenBlocks) => ({
  partition,
  ranges: taken.map((block) => `${block.from}-${block.to}`),
  from,
  offset,
  next: decodeProcessorPosition(metadata)?.next,
});

beforeEach(() => {
  intake = new BlockIntake('orders', 'stream', metrics);
  halted = [];
});

describe('an intake of blocks', () => {
  it('takes adjacent blocks and says what to commit', () => {
    assign({});
    expect(intake.take([work(3n, blocks)], context).map(summary)).toEqual([
      { partition: 0, ranges: ['0-2', '2-5', '5-5', '5-9'], from: 3n, offset: 7n, next: 9n },
    ]);
  });

  it('goes on behind markers, although they bring no block', () => {
    assign({
      committed: { offset: 3n, metadata: encodeProcessorPosition({ epoch: 0n, next: 5n }) },
    });
    const markers = { ...work(3n, []), next: 6n };
    expect(intake.take([markers], context).map(summary)).toEqual([
      { partition: 0, ranges: [], from: 3n, offset: 6n, next: 5n },
    ]);
  });

  it('drops what was accounted for before the offset it reads from was reached', () => {
    assign({
      committed: { offset: 3n, metadata: encodeProcessorPosition({ epoch: 0n, next: 5n }) },
    });
    expect(intake.take([work(3n, blocks)], context).map(summary)).toEqual([
      { partition: 0, ranges: ['5-5', '5-9'], from: 3n, offset: 7n, next: 9n },
    ]);
  });

  it('looks at nothing in front of the expected offset', () => {
    assign({
      committed: { offset: 5n, metadata: encodeProcessorPosition({ epoch: 0n, next: 5n }) },
    });
    const batch = recordBatch(
      [Buffer.from('not ours'), blocks[3] ?? null].map((value, i) => ({ offset: 4 + i, value })),
    );
    const piece = { ...work(5n, []), batches: [batch], next: 6n };
    expect(intake.take([piece], context).map(summary)).toEqual([
      { partition: 0, ranges: ['5-9'], from: 5n, offset: 6n, next: 9n },
    ]);
    expect(halted).toEqual([]);
  });

  it.each([
    ['a gap', message(6n, 9n), 'source offsets [5, 6) are missing'],
    ['an overlap', message(4n, 9n), 'overlaps'],
    ['what is no block', Buffer.from('nonsense'), 'is no block'],
    ['a tombstone', null, 'is no block'],
  ])(
    'halts only the partition that has %s, and commits what is good in front of it',
    (_, bad, why) => {
      assign({}, { partition: 1 });
      const taken = intake.take(
        [work(0n, [...blocks.slice(0, 2), bad, ...blocks]), work(0n, blocks, 1)],
        context,
      );
      expect(taken.map(summary)).toEqual([
        { partition: 0, ranges: ['0-2', '2-5'], from: 0n, offset: 2n, next: 5n },
        { partition: 1, ranges: ['0-2', '2-5', '5-5', '5-9'], from: 0n, offset: 4n, next: 9n },
      ]);
      expect(halted).toHaveLength(1);
      expect(halted[0]).toMatch(/^orders\.stream\/0: /);
      expect(halted[0]).toContain(why);
    },
  );

  it('halts on a damaged batch, and commits no more than the batches in front of it', () => {
    assign({});
    const good = work(0n, blocks.slice(0, 2));
    const bad = work(2n, blocks.slice(2));
    bad.batches[0]?.writeUInt8(0xff, 100);
    const piece = { ...good, batches: [...good.batches, ...bad.batches], next: 4n };
    const [taken] = intake.take([piece], context).map(summary);
    expect(taken?.ranges).toEqual(['0-2', '2-5']);
    expect(taken?.next).toBe(5n);
    expect(taken?.offset).toBeLessThanOrEqual(2n);
    expect(halted[0]).toContain('checksum');
  });

  it('commits nothing of a partition whose very first block is missing', () => {
    assign({});
    expect(intake.take([work(0n, blocks.slice(1))], context)).toEqual([]);
    expect(halted[0]).toContain('source offsets [0, 2) are missing');
  });

  it('does not go on from an offset that somebody else committed', () => {
    assign({ committed: { offset: 5n, metadata: 'by hand' } }, { partition: 1 });
    expect(halted[0]).toContain('orders.stream/0: ');
    const taken = intake.take([work(5n, blocks), work(0n, blocks, 1)], context);
    expect(taken.map(({ partition }) => partition)).toEqual([1]);
  });

  it('begins anew with each assignment', () => {
    assign({});
    intake.take([work(0n, blocks)], context);
    intake.clear();
    expect(intake.take([work(4n, blocks)], context)).toEqual([]);
    assign({});
    expect(intake.take([work(0n, blocks)], context).map(summary)[0]?.ranges).toHaveLength(4);
  });

  it('keeps the trace that a block came with, and minds no other header', () => {
    assign({});
    const traceparent = '00-0123456789abcdef0123456789abcdef-0123456789abcdef-01';
    const header = (name: string, value: string | null) =>
      [name, value === null ? null : Buffer.from(value)] as const;
    const headers = [
      [header('tracestate', 'x'), header('traceparent', traceparent)],
      [],
      [header('traceparent', null), header('Traceparent', traceparent)],
      [header('traceparent', 'x'.repeat(300))],
    ];
    const batch = recordBatch(
      blocks.map((value, offset) => ({ offset, value, headers: headers[offset] ?? [] })),
    );
    const [taken] = intake.take([{ ...work(0n, []), batches: [batch], next: 4n }], context);
    expect(taken?.blocks.map(({ trace }) => trace)).toEqual([
      traceparent,
      undefined,
      undefined,
      undefined,
    ]);
    expect(taken?.blocks.every((block, i) => i === 0 || !('trace' in block))).toBe(true);
  });
});
