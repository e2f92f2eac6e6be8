import { parseArgs } from 'node:util';
import { buildServices } from '../../tools/build-services.ts';
import { type FaultName, faultNames } from './faults/all.ts';
import { startFireServers } from './fire-servers.ts';
import { planRound } from './plan.ts';
import { type Outcome, runRound } from './round.ts';
import { summary } from './summary.ts';

const { values } = parseArgs({
  options: {
    minutes: { type: 'string', default: '10' },
    rounds: { type: 'string' },
    steps: { type: 'string', default: '5' },
    seed: { type: 'string', default: '1' },
    only: { type: 'string' },
    quiet: { type: 'boolean', default: false },
    help: { type: 'boolean', short: 'h', default: false },
  },
});

const usage = `npm run fire -- [--minutes 10] [--seed 1] [--only fault,fault] [--rounds N] [--steps 5] [--quiet]

Rounds of load, faults and checks, each with the seed that follows that of the round before, until the
minutes are over, or for so many rounds. Exit code 1: a check failed.

Faults: ${faultNames.join(', ')}`;

if (values.help) {
  console.log(usage);
} else {
  process.exitCode = await fire();
}

async function fire(): Promise<number> {
  const names = values.only === undefined ? faultNames : chosen(values.only);
  const steps = Number(values.steps);
  const first = Number(values.seed);
  const until = performance.now() + Number(values.minutes) * 60_000;
  const rounds = values.rounds === undefined ? Infinity : Number(values.rounds);
  const outcomes: Outcome[] = [];
  console.log('Building the services');
  buildServices();
  const servers = await startFireServers();
  for (const signal of ['SIGINT', 'SIGTERM'] as const) {
    // The servers end with this process; the small disks don't.
    process.once(signal, () => void servers.stop().finally(() => process.exit(130)));
  }
  try {
    for (let round = 0; round < rounds && (round === 0 || performance.now() < until); round++) {
      const seed = first + round;
      const plan = planRound({ seed, names, steps });
      console.log(`\nRound ${round + 1}, seed ${seed}`);
      const outcome = await runRound(servers, plan, (line) => {
        if (!values.quiet) {
          console.log(line);
        }
      });
      outcomes.push(outcome);
      if (outcome.violations.length > 0) {
        console.log(report(outcome));
        // What a broken round leaves in the servers may break the next one.
        break;
      }
    }
  } finally {
    await servers.stop();
  }
  console.log(summary(outcomes));
  return outcomes.every(({ violations }) => violations.length === 0) ? 0 : 1;
}

function report({ seed, violations, log }: Outcome): string {
  const only = values.only === undefined ? '' : ` --only ${values.only}`;
  return `
Seed ${seed} has failed:
${violations.map((violation) => `  ${violation}`).join('\n')}
What happened when, in seconds:
${log.map(({ at, what }) => `${(at / 1000).toFixed(1).padStart(7)}  ${what}`).join('\n')}
Run it again: npm run fire -- --rounds 1 --seed ${seed} --steps ${values.steps}${only}`;
}

function chosen(only: string): FaultName[] {
  const names = only.split(',').map((name) => name.trim());
  const unknown = names.filter((name) => !(faultNames as string[]).includes(name));
  if (unknown.length > 0) {
    throw new Error(`No such fault: ${unknown.join(', ')}. There are ${faultNames.join(', ')}.`);
  }
  return names as FaultName[];
}
