import { spawnSync } from 'node:child_process';
import { readdirSync, readFileSync, rmSync } from 'node:fs';
import path from 'node:path';
import { fileURLToPath } from 'node:url';
import { parseArgs, stripVTControlCharacters } from 'node:util';
import { makeScratchCopy } from './scratch-copy.ts';

const { values } = parseArgs({
  options: {
    only: { type: 'string' },
    // The commands are known to pass.
    'skip-baseline': { type: 'boolean', default: false },
    help: { type: 'boolean', short: 'h', default: false },
  },
});

const usage = `npm run fire:mutants -- [--only name,name] [--skip-baseline]

Breaks a copy of the code in each of the ways that test/fire/mutants/*.patch describe, and runs what has to notice.
Before, the same commands have to pass on the code as it is. Exit code 1: a mutant has survived.`;

/** A deliberate fault of the code, and what must notice it. */
interface Mutant {
  readonly name: string;
  readonly patch: string;
  /** What is broken, in a line. */
  readonly fault: string;
  /** Arguments of `npm run fire`, or of Vitest. */
  readonly command: readonly string[];
}

const folder = fileURLToPath(new URL('mutants/', import.meta.url));

function readMutants(only: string | undefined): Mutant[] {
  const names = only?.split(',');
  return readdirSync(folder)
    .filter((file) => file.endsWith('.patch'))
    .map((file): Mutant => {
      const name = path.basename(file, '.patch');
      const patch = path.join(folder, file);
      const [fault = '', caughtBy = ''] = readFileSync(patch, 'utf8').split('\n');
      const command = /^Caught by: (.+)$/.exec(caughtBy)?.[1]?.split(' ');
      if (command === undefined) {
        throw new Error(
          `${patch}: its second line must be "Caught by: fire …" or "Caught by: vitest …".`,
        );
      }
      return { name, patch, fault, command };
    })
    .filter(({ name }) => names?.includes(name) ?? true);
}

interface Run {
  readonly passed: boolean;
  readonly seconds: number;
  /** The line that says why it failed. */
  readonly reason: string;
}

function run([tool, ...given]: readonly string[], copy: string): Run {
  const begun = performance.now();
  const [program, ...parameters] =
    tool === 'fire'
      ? ['node', 'test/fire/main.ts', '--rounds', '1', '--quiet', ...given]
      : ['vitest', 'run', ...given];
  const { status, stdout, stderr } = spawnSync(program ?? '', parameters, {
    cwd: copy,
    encoding: 'utf8',
    maxBuffer: 256 * 1024 * 1024,
    timeout: 900_000,
    env: {
      ...process.env,
      PATH: `${path.join(copy, 'node_modules/.bin')}${path.delimiter}${process.env['PATH']}`,
      // A change of kafkajs is none of what Nx looks at.
      NX_SKIP_NX_CACHE: 'true',
    },
  });
  const output = stripVTControlCharacters(`${stdout}${stderr}`);
  const reason = /^.*(?:has failed:\n.*|AssertionError.*|Error: .*)$/m.exec(output)?.[0] ?? '';
  return {
    passed: status === 0,
    seconds: Math.round((performance.now() - begun) / 1000),
    reason: (reason.split('\n').at(-1) ?? '').trim().slice(0, 160),
  };
}

function apply({ patch }: Mutant, copy: string, ...options: string[]): void {
  const { status, stderr } = spawnSync('git', ['apply', '-C1', ...options, patch], {
    cwd: copy,
    encoding: 'utf8',
    // The copy may lie in somebody's repository.
    env: { ...process.env, GIT_DIR: '/dev/null' },
  });
  if (status !== 0) {
    throw new Error(`${patch} doesn't fit the code any more: make it anew.\n${stderr}`);
  }
}

function main(): number {
  const mutants = readMutants(values.only);
  const copy = makeScratchCopy();
  try {
    if (!values['skip-baseline']) {
      const commands = new Set(mutants.map(({ command }) => command.join(' ')));
      for (const command of commands) {
        const { passed, seconds, reason } = run(command.split(' '), copy);
        console.log(`${passed ? 'passes' : 'FAILS '}  ${seconds} s  ${command}  ${reason}`);
        if (!passed) {
          console.log('Nothing can be said of mutants that it should notice.');
          return 1;
        }
      }
    }
    let survivors = 0;
    for (const mutant of mutants) {
      apply(mutant, copy);
      const { passed, seconds, reason } = run(mutant.command, copy);
      apply(mutant, copy, '--reverse');
      survivors += passed ? 1 : 0;
      console.log(
        `${passed ? 'SURVIVES' : 'caught  '}  ${seconds} s  ${mutant.name}: ${mutant.fault}\n    ${reason}`,
      );
    }
    console.log(`${mutants.length - survivors} of ${mutants.length} mutants are caught`);
    return survivors === 0 ? 0 : 1;
  } finally {
    rmSync(copy, { recursive: true, force: true });
  }
}

if (values.help) {
  console.log(usage);
} else {
  process.exitCode = main();
}
