import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { judgePartials, PartitionFrontiers } from './partition-frontiers.ts';
import { partialOf, tableOf } from './testing.ts';
import { planWith, source, totalPlan, upsertPlan } from '@anabranch/postgres/testing';

const plan = planWith([totalPlan]).sources.get(source.name)!;

function frontiersAt(next: bigint | null): PartitionFrontiers {
  const frontiers = new PartitionFrontiers();
  frontiers.claim(
    [0, 1].flatMap((partition) =>
      (['stream', 'batch'] as const).map((branch) => ({
        partition,
        branch,
        next,
        watermark: null,
        fence: 1n,
      })),
    ),
  );
  return frontiers;
}

const ranges = (partials: readonly { from: bigint; to: bigint }[]): string[] =>
  partials.map(({ from, to }) => `${from}-${to}`);

describe('the merge law over the partials of a step', () => {
  it('takes what is adjacent in one share, drops replays, and begins at the origin where nothing was applied', () => {
    const partials = [
      partialOf({ from: 5n, to: 7n }, { origin: 5n }),
      partialOf({ from: 5n, to: 7n }, { origin: 5n }),
      partialOf({ from: 7n, to: 7n }, { origin: 5n }),
      partialOf({ from: 6n, to: 7n }, { origin: 5n }),
      partialOf({ from: 7n, to: 9n }, { origin: 5n }),
    ];
    const judged = judgePartials(partials, frontiersAt(null), plan);
    expect(judged.shares.map(({ partials: taken }) => ranges(taken))).toEqual([
      ['5-7', '7-7', '7-9'],
    ]);
    expect(ranges(judged.replayed)).toEqual(['5-7', '6-7']);
    expect(judged.misfits).toEqual([]);
  });

  it('refuses a partial that has lost records on their way from the block', () => {
    const lost = partialOf({ from: 0n, to: 4n }, { tables: [tableOf('total', 3n, '')] });
    const { shares, misfits } = judgePartials([lost], frontiersAt(null), plan);
    expect(shares).toEqual([]);
    expect(misfits).toMatchObject([
      {
        verdict: 'refused',
        reason: expect.stringContaining('accounts for other records') as string,
      },
    ]);
  });

  it('takes nothing of a partition behind a misfit, on neither branch, and all of the others', () => {
    const partials = [
      partialOf({ from: 0n, to: 2n }),
      partialOf({ from: 3n, to: 4n }),
      partialOf({ from: 2n, to: 3n }),
      partialOf({ branch: 'batch', from: 0n, to: 4n }),
      partialOf({ partition: 1, from: 0n, to: 4n }),
    ];
    const { shares, misfits } = judgePartials(partials, frontiersAt(null), plan);
    expect(
      shares.map(({ partition, branch, partials: taken }) => [partition, branch, ...ranges(taken)]),
    ).toEqual([
      [0, 'stream', '0-2'],
      [1, 'stream', '0-4'],
    ]);
    expect(misfits).toMatchObject([
      {
        verdict: 'gap',
        next: 2n,
        partial: { from: 3n },
        reason: expect.stringContaining('[2, 3)') as string,
      },
    ]);
  });

  it('calls what overlaps the frontier by its name', () => {
    const { misfits, shares } = judgePartials(
      [partialOf({ from: 3n, to: 6n })],
      frontiersAt(5n),
      plan,
    );
    expect(misfits).toMatchObject([{ verdict: 'overlap', next: 5n }]);
    expect(shares).toEqual([]);
  });

  it('never lets a frontier move back', () => {
    const { misfits, shares } = judgePartials(
      [partialOf({ from: 5n, to: 3n })],
      frontiersAt(5n),
      plan,
    );
    expect(misfits).toMatchObject([{ verdict: 'refused' }]);
    expect(shares).toEqual([]);
  });

  it('applies each offset exactly once, whatever comes', () => {
    const range = fc
      .tuple(fc.bigInt(0n, 12n), fc.bigInt(0n, 6n))
      .map(([from, length]) => ({ from, to: from + length }));
    fc.assert(
      fc.property(fc.array(range, { maxLength: 30 }), fc.bigInt(0n, 6n), (all, start) => {
        const { shares } = judgePartials(
          all.map((one) => partialOf(one)),
          frontiersAt(start),
          plan,
        );
        let next = start;
        for (const { from, to } of shares.flatMap(({ partials }) => partials)) {
          expect(from).toBe(next);
          next = to;
        }
      }),
    );
  });
});

describe('a partial of other tables', () => {
  const differs = (tables: Parameters<typeof partialOf>[1]) =>
    judgePartials([partialOf({ from: 0n, to: 2n }, tables)], frontiersAt(0n), plan).misfits;

  it('is refused where a table has another definition, is missing, or is unknown here', () => {
    const total = tableOf('total', 2n, '');
    for (const tables of [[{ ...total, hash: 'total-2' }], [], [total, tableOf('more', 2n, '')]]) {
      expect(differs({ tables })).toMatchObject([
        {
          verdict: 'refused',
          reason: expect.stringMatching(/different definitions of table (total|more)/) as string,
        },
      ]);
    }
    expect(differs({ tables: [total] })).toEqual([]);
  });

  it('is taken where the branch got no record: a processor may leave the tables out', () => {
    const split = { stream: 0n, batch: 2n, dead: 0n, rules: [2n, 0n] };
    expect(differs({ tables: [], split })).toEqual([]);
    const both = planWith([totalPlan, upsertPlan]).sources.get(source.name)!;
    expect(
      judgePartials([partialOf({ from: 0n, to: 2n }, { tables: [], split })], frontiersAt(0n), both)
        .misfits,
    ).toEqual([]);
  });
});

it('moves a frontier and its watermark with what was committed, and forgets all when cleared', () => {
  const frontiers = frontiersAt(0n);
  const partials = [
    partialOf({ from: 0n, to: 2n }, { watermark: 9n }),
    partialOf({ from: 2n, to: 4n }, { watermark: 7n }),
    partialOf({ from: 4n, to: 5n }),
  ];
  frontiers.advance(judgePartials(partials, frontiers, plan).shares);
  expect(frontiers.get(0, 'stream')).toEqual({ fence: 1n, next: 5n, watermark: 9n });
  expect(frontiers.get(0, 'batch')).toEqual({ fence: 1n, next: 0n, watermark: null });
  frontiers.clear();
  expect(() => frontiers.get(0, 'stream')).toThrow("isn't claimed");
});
