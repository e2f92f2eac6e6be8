import { expect, onTestFinished, test } from 'vitest';
import { faultNames } from './faults/all.ts';
import { type FireServers, startFireServers } from './fire-servers.ts';
import { type Plan, planRound } from './plan.ts';
import { runRound } from './round.ts';

/** A bounded part of `npm run fire`, with the same seeds each time. */
async function expectUnharmed(plan: Plan, rerun: string): Promise<void> {
  const servers: FireServers = await startFireServers();
  onTestFinished(() => servers.stop(), 60_000);
  const { violations, log, looks, finals, corrections } = await runRound(servers, plan);
  const story = log.map(({ at, what }) => `${(at / 1000).toFixed(1).padStart(7)}  ${what}`);
  expect(violations, `Run it again: npm run fire -- ${rerun}\n${story.join('\n')}`).toEqual([]);
  // Else the checks that watch had nothing to see.
  expect(Math.min(looks, finals, corrections)).toBeGreaterThan(0);
}

const [alone, seed] = [{ seed: 1, steps: 1 }, 11];

test('a session of fusion is ended at each statement of a step: every record counts once', async () => {
  const names = ['every-statement'] as const;
  await expectUnharmed(
    planRound({ ...alone, names }),
    '--rounds 1 --seed 1 --steps 1 --only every-statement',
  );
});

test('Postgres stalls for a minute under full load: memory stays bounded, lag is reported, and all is applied afterwards', async () => {
  const names = ['postgres-stalled'] as const;
  await expectUnharmed(
    planRound({ ...alone, names }),
    '--rounds 1 --seed 1 --steps 1 --only postgres-stalled',
  );
});

test('faults of all families, alone and together, harm nothing', async () => {
  const quick = faultNames.filter(
    (name) => !['every-statement', 'postgres-stalled', 'network-black-hole'].includes(name),
  );
  await expectUnharmed(
    planRound({ seed, names: quick, steps: 6 }),
    `--rounds 1 --seed ${seed} --steps 6 --only ${quick.join(',')}`,
  );
});
