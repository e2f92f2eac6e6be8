import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { PartitionQueue, takeWork } from './partition-queue.ts';

function queueOf(partition: number, sizes: readonly number[], start = 0n): PartitionQueue {
  const queue = new PartitionQueue('t', partition, start, 100n);
  sizes.forEach((size, index) => queue.add(Buffer.alloc(size), start + BigInt(index) + 1n));
  queue.advance(start + BigInt(sizes.length), 100n);
  return queue;
}

describe('a queue', () => {
  it('takes only a fetch that began where the one before ended', () => {
    const queue = queueOf(0, [10, 10], 5n);
    expect(['6', '7', '8'].map((offset) => queue.follows(offset))).toEqual([false, true, false]);
    queue.take(2);
    expect(queue.follows('7')).toBe(true);
    queue.halted = 'a gap';
    expect(queue.follows('7')).toBe(false);
  });
});

describe('takeWork', () => {
  it('gives every partition a turn before any has a second one', () => {
    const full = queueOf(
      0,
      Array.from({ length: 50 }, () => 10),
    );
    const work = takeWork([full, queueOf(1, [10]), queueOf(2, [10, 10])], 60, 0, false);
    expect(work.map(({ partition, batches }) => [partition, batches.length])).toEqual([
      [0, 3],
      [1, 1],
      [2, 2],
    ]);
  });

  it('takes a batch that is larger than the budget', () => {
    const work = takeWork([queueOf(0, [1000, 1])], 10, 0, false);
    expect(work).toMatchObject([{ bytes: 1000, from: 0n, next: 1n }]);
  });

  it('rotates who comes first', () => {
    const queues = [0, 1, 2].map((partition) => queueOf(partition, [10, 10, 10]));
    const first = [0, 1, 2, 3].map((turn) => takeWork(queues, 5, turn, false)[0]?.partition);
    expect(first).toEqual([0, 1, 2, 0]);
  });

  it('reports a position that moved over markers only when asked to', () => {
    const queue = queueOf(0, []);
    queue.advance(7n, 8n);
    expect(takeWork([queue], 100, 0, false)).toEqual([]);
    expect(takeWork([queue], 100, 0, true)).toMatchObject([{ batches: [], from: 0n, next: 7n }]);
    expect(takeWork([queue], 100, 0, true)).toEqual([]);
  });

  it('tiles each partition without gap or overlap, and never exceeds the budget by more than a batch', () => {
    const arrivals = fc.array(
      fc.record({
        partition: fc.nat(3),
        sizes: fc.array(fc.integer({ min: 1, max: 100 }), { maxLength: 5 }),
        markers: fc.nat(2),
        budget: fc.integer({ min: 1, max: 300 }),
        positions: fc.boolean(),
      }),
      { maxLength: 40 },
    );
    fc.assert(
      fc.property(arrivals, (steps) => {
        const queues = [0, 1, 2, 3].map((partition) => new PartitionQueue('t', partition, 0n, 0n));
        const reached = [0n, 0n, 0n, 0n];
        let total = 0;
        const take = (budget: number, turn: number, positions: boolean): void => {
          const work = takeWork(queues, budget, turn, positions);
          const bytes = work.reduce((sum, part) => sum + part.bytes, 0);
          expect(bytes).toBeLessThan(budget + 100);
          for (const { partition, from, next, batches } of work) {
            expect(from).toBe(reached[partition]);
            expect(next).toBeGreaterThanOrEqual(from);
            reached[partition] = next;
            total -= batches.reduce((sum, batch) => sum + batch.length, 0);
          }
        };
        steps.forEach(({ partition, sizes, markers, budget, positions }, turn) => {
          const queue = queues[partition]!;
          let next = queue.expected;
          for (const size of sizes) {
            next += 3n;
            total += size;
            queue.add(Buffer.alloc(size), next);
          }
          queue.advance(next + BigInt(markers), next + 5n);
          take(budget, turn, positions);
        });
        take(Number.MAX_SAFE_INTEGER, 0, true);
        expect(reached).toEqual(queues.map(({ expected }) => expected));
        expect(total).toBe(0);
        expect(queues.map(({ bytes }) => bytes)).toEqual([0, 0, 0, 0]);
      }),
    );
  });
});
