import { testBlock } from '@anabranch/contract/testing';
import { CoverageError } from '@anabranch/coverage';
import { mostLinks } from '@anabranch/service';
import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { joinStretches, roundsOf, type Stretch, stretchesOf } from './stretch.ts';

/** Adjacent blocks, some without a record, whose definition changes now and then. */
const adjacent = fc
  .array(fc.record({ records: fc.nat({ max: 3 }), upgrade: fc.boolean(), at: fc.nat() }))
  .map((rows) => {
    let from = 0n;
    let version = 0;
    return rows.map(({ records, upgrade, at }) => {
      version += upgrade ? 1 : 0;
      const lines = Array.from({ length: records }, (_, i) => `line ${from + BigInt(i)}`);
      const block = testBlock({ from, definition: `v${version}`, producedAt: BigInt(at) }, lines);
      from = block.to;
      return block;
    });
  });

describe('stretches', () => {
  it('tile what the blocks cover, each under one definition and as long as it lasts', () => {
    fc.assert(
      fc.property(adjacent, (blocks) => {
        const stretches = stretchesOf(3, blocks);
        expect(stretches.map(({ coverage }) => coverage.definition)).toEqual([
          ...new Set(blocks.map(({ definition }) => definition)),
        ]);
        let next = 0n;
        for (const { coverage, partition } of stretches) {
          expect([coverage.from, partition]).toEqual([next, 3]);
          next = coverage.to;
        }
        expect(next).toBe(blocks.at(-1)?.to ?? 0n);
        const texts = stretches.flatMap((stretch) => stretch.texts);
        expect(texts.map(({ text }) => text.toString()).join('')).toBe(
          blocks.map(({ payload }) => payload.toString()).join(''),
        );
        expect(texts.every(({ runs }) => runs.length > 0)).toBe(true);
      }),
    );
  });

  it('are the same joined as read at once', () => {
    fc.assert(
      fc.property(adjacent, (blocks) => {
        const same = blocks.map((block) => ({ ...block, definition: 'v' }));
        const [whole] = stretchesOf(0, same);
        const joined = same
          .flatMap((block): Stretch[] => stretchesOf(0, [block]))
          .reduce<Stretch | undefined>((a, b) => (a ? joinStretches(a, b) : b), undefined);
        expect(joined?.coverage).toEqual(whole?.coverage);
        expect(joined?.producedAt).toBe(whole?.producedAt);
      }),
    );
  });

  it('know the traces of their first blocks, and no more of them than a span can link to', () => {
    const blocks = Array.from({ length: 300 }, (_, i) => ({
      ...testBlock({ from: BigInt(i) }, ['x']),
      ...(i % 2 === 0 && { trace: `trace ${i}` }),
    }));
    const [whole] = stretchesOf(0, blocks);
    const joined = blocks
      .flatMap((block): Stretch[] => stretchesOf(0, [block]))
      .reduce((a, b) => joinStretches(a, b));
    const expected = Array.from({ length: 1 + mostLinks }, (_, i) => `trace ${2 * i}`);
    expect(whole?.traces).toEqual(expected);
    expect(joined.traces).toEqual(expected);
  });

  it('are not joined over a gap', () => {
    const [a] = stretchesOf(0, [testBlock({}, ['x'])]);
    const [b] = stretchesOf(0, [testBlock({ from: 2n }, ['x'])]);
    expect(() => joinStretches(a as Stretch, b as Stretch)).toThrow(CoverageError);
  });

  it('keep what restoring takes, only of blocks in which something was altered', () => {
    const altered = [{ record: 1, byteOrderMark: true, lineFeeds: [] }];
    const blocks = [testBlock({}, ['a']), testBlock({ from: 1n, altered }, ['b', 'c'])];
    const stretches = blocks.flatMap((block) => stretchesOf(0, [block]));
    const kept = [{ from: 1n, to: 3n, runs: [{ start: 1n, count: 2 }], altered }];
    expect(stretches.map((stretch) => stretch.altered)).toEqual([[], kept]);
    const [first, second] = stretches;
    expect(joinStretches(first as Stretch, second as Stretch).altered).toEqual(kept);
  });
});

it('a round has at most one stretch of each partition, in their order', () => {
  const blocks = (...definitions: string[]) =>
    definitions.map((definition, i) => testBlock({ from: BigInt(i), definition }, ['x']));
  const rounds = roundsOf([
    stretchesOf(0, blocks('a', 'b', 'b', 'c')),
    stretchesOf(1, []),
    stretchesOf(2, blocks('b')),
  ]);
  expect(
    rounds.map((round) => round.map(({ partition, coverage }) => [partition, coverage.definition])),
  ).toEqual([
    [
      [0, 'a'],
      [2, 'b'],
    ],
    [[0, 'b']],
    [[0, 'c']],
  ]);
});
