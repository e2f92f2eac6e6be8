import { existsSync } from 'node:fs';
import { mkdtemp, readdir, readFile, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import path from 'node:path';
import type { TextBlock } from '@anabranch/compute';
import { type Block, decodeProcessorPosition, encodeProcessorPosition } from '@anabranch/contract';
import { testBlock } from '@anabranch/contract/testing';
import type { TakenBlocks } from '@anabranch/processor';
import fc from 'fast-check';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { removeFiles, slicesOf, Spool, type SpoolEntry } from './spool.ts';

let directory: string;
beforeAll(async () => {
  directory = await mkdtemp(path.join(tmpdir(), 'anabranch-spool-'));
});
afterAll(() => rm(directory, { recursive: true, force: true }));

/** The texts as they are, in place of Parquet. */
const processor = {
  async spool(blocks: readonly TextBlock[], file: string) {
    await writeFile(file, Buffer.concat(blocks.map(({ text }) => text)));
    return { records: 0, bytes: 0, seconds: 1 };
  },
};
const newSpool = (fileBytes: number): Spool => new Spool({ processor, directory, fileBytes });

/** What a step took: adjacent blocks, behind the Kafka offset `at`. */
function taken(partition: number, at: bigint, blocks: readonly Block[], next: bigint): TakenBlocks {
  return {
    topic: 'orders.batch',
    partition,
    blocks,
    from: at,
    offset: at + BigInt(blocks.length),
    metadata: encodeProcessorPosition({ epoch: 0n, next }),
  };
}

/** Steps over two partitions, with empty blocks, replays only, and a new definition now and then. */
const steps = fc
  .array(
    fc.array(
      fc.record({
        partition: fc.nat({ max: 1 }),
        records: fc.nat({ max: 3 }),
        upgrade: fc.nat({ max: 5 }).map((chance) => chance === 0),
      }),
      { maxLength: 5 },
    ),
    { maxLength: 12 },
  )
  .map((rows) => {
    const from = [0n, 0n];
    const at = [100n, 200n];
    const version = [0, 0];
    return rows.map((row) =>
      [0, 1].flatMap((partition): TakenBlocks[] => {
        const blocks = row
          .filter((block) => block.partition === partition)
          .map(({ records, upgrade }) => {
            version[partition] = (version[partition] ?? 0) + (upgrade ? 1 : 0);
            const first = from[partition] ?? 0n;
            const lines = Array.from(
              { length: records },
              (_, i) => `${partition}:${first + BigInt(i)}`,
            );
            const definition = `v${version[partition]}`;
            const block = testBlock({ partition, from: first, definition }, lines);
            from[partition] = block.to;
            return block;
          });
        const piece = taken(partition, at[partition] ?? 0n, blocks, from[partition] ?? 0n);
        at[partition] = piece.offset;
        return [piece];
      }),
    );
  });

describe('the spool', () => {
  it('gives back everything in order: coverage tiles, records are all in the files, once', async () => {
    await fc.assert(
      fc.asyncProperty(
        steps,
        fc.constantFrom(1, 15, 1_000_000),
        fc.constantFrom(1, 20, Infinity),
        async (all, fileBytes, sliceBytes) => {
          const spool = newSpool(fileBytes);
          for (const step of all) {
            await spool.add(step);
          }
          const { records, bytes } = spool;
          const entries = await spool.take();
          expect([spool.isEmpty, spool.records, spool.bytes]).toEqual([true, 0, 0]);
          const slices = slicesOf(entries, sliceBytes);
          const sum = (values: readonly number[]): number => values.reduce((a, b) => a + b, 0);
          expect(sum(slices.map((slice) => slice.records))).toBe(records);
          expect(sum(slices.map((slice) => slice.bytes))).toBe(bytes);
          for (const partition of [0, 1]) {
            const blocks = all
              .flat()
              .filter((piece) => piece.partition === partition)
              .flatMap((piece) => piece.blocks);
            const texts: string[] = [];
            let next = 0n;
            let offset = 0n;
            for (const { parts, entries: files } of slices) {
              const own = parts.filter((part) => part.partition === partition);
              expect(own.length).toBeLessThanOrEqual(1);
              for (const { stretch, metadata, offset: committed } of own) {
                if (stretch !== null) {
                  expect(stretch.coverage.from).toBe(next);
                  next = stretch.coverage.to;
                  const under = blocks.filter(
                    ({ from, to }) => from >= stretch.coverage.from && to <= next && from < to,
                  );
                  expect(new Set(under.map(({ definition }) => definition)).size).toBeLessThan(2);
                }
                // What is committed never passes what is stored, and never goes back.
                expect(decodeProcessorPosition(metadata)?.next).toBe(next);
                expect(committed).toBeGreaterThanOrEqual(offset);
                offset = committed;
              }
              for (const { file } of files) {
                const text = file === null ? '' : await readFile(file, 'utf8');
                texts.push(...text.split('\n').filter((line) => line.startsWith(`${partition}:`)));
              }
            }
            expect(next).toBe(blocks.at(-1)?.to ?? 0n);
            expect(texts).toEqual(
              blocks.flatMap(({ payload }) => payload.toString().split('\n').slice(0, -1)),
            );
            const last = all.flat().findLast((piece) => piece.partition === partition);
            expect(offset).toBe(last?.offset ?? 0n);
          }
          await removeFiles(entries);
        },
      ),
      { numRuns: 60 },
    );
    expect(await readdir(directory)).toEqual([]);
  });

  it('does not let a trickle become a host of files, nor of coverages', async () => {
    const spool = newSpool(100);
    for (let i = 0n; i < 200n; i++) {
      await spool.add([taken(0, i, [testBlock({ from: i }, ['123456789'])], i + 1n)]);
    }
    const entries = await spool.take();
    expect(entries.map(({ bytes }) => bytes)).toEqual(Array(20).fill(100));
    expect(entries.map(({ parts }) => parts.length)).toEqual(Array(20).fill(1));
    await removeFiles(entries);
    for (let i = 0n; i < 1000n; i++) {
      await spool.add([taken(0, i, [testBlock({ from: i, to: i + 1n })], i + 1n)]);
    }
    const [entry, ...more] = await spool.take();
    expect(more).toEqual([]);
    expect(entry).toMatchObject({ file: null, records: 0, bytes: 0 });
    expect(entry?.parts[0]?.stretch?.coverage).toMatchObject({ from: 0n, to: 1000n });
  });

  it('keeps no view of what was fetched', async () => {
    const spool = newSpool(1_000);
    const block = testBlock({}, ['own']);
    await spool.add([taken(0, 0n, [block], 1n)]);
    block.payload.fill('x');
    const entries = await spool.take();
    expect(await readFile(entries[0]?.file ?? '', 'utf8')).toBe('own\n');
    await removeFiles(entries);
  });

  it('reads again, from where the step began, what lies in front of a change of definition', async () => {
    const spool = newSpool(1_000);
    const blocks = ['v1', 'v2', 'v2'].map((definition, i) =>
      testBlock({ from: BigInt(i), definition }, ['x']),
    );
    await spool.add([taken(0, 50n, blocks, 3n)]);
    const entries = await spool.take();
    expect(
      entries.map(({ parts }) => parts.map(({ offset, metadata }) => [offset, metadata])),
    ).toEqual([[[50n, 'next=1']], [[53n, 'next=3']]]);
    await removeFiles(entries);
  });

  it('removes its files when it is cleared, and the half one of a failure', async () => {
    const spool = newSpool(4);
    await spool.add([taken(0, 0n, [testBlock({}, ['abc'])], 1n)]);
    await spool.add([taken(0, 1n, [testBlock({ from: 1n }, ['a'])], 2n)]);
    expect(await readdir(directory)).toHaveLength(1);
    expect(spool.records).toBe(2);
    await spool.clear();
    expect(await readdir(directory)).toEqual([]);
    expect([spool.isEmpty, spool.records]).toEqual([true, 0]);
    let written = '';
    const failing = new Spool({
      directory,
      fileBytes: 1,
      processor: {
        async spool(_blocks, file) {
          await writeFile(file, 'half');
          written = file;
          throw new Error('disk full');
        },
      },
    });
    await expect(failing.add([taken(0, 0n, [testBlock({}, ['a'])], 1n)])).rejects.toThrow(
      'disk full',
    );
    expect(written).not.toBe('');
    expect(existsSync(written)).toBe(false);
  });
});

describe('slices', () => {
  const entry = (bytes: number): SpoolEntry => ({
    parts: [],
    file: null,
    records: 1,
    bytes,
    loadSeconds: 0,
  });

  it('are as large as allowed, in order, and larger only by a single entry', () => {
    fc.assert(
      fc.property(fc.array(fc.nat({ max: 50 })), fc.nat({ max: 60 }), (sizes, limit) => {
        const slices = slicesOf(sizes.map(entry), limit);
        expect(slices.flatMap(({ entries }) => entries.map(({ bytes }) => bytes))).toEqual(sizes);
        slices.forEach(({ bytes, entries }, i) => {
          expect(bytes <= limit || entries.length === 1).toBe(true);
          const next = slices[i + 1]?.entries[0]?.bytes;
          expect(next === undefined || bytes + next > limit).toBe(true);
        });
      }),
    );
  });
});
