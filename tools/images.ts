import { spawnSync, type SpawnSyncOptions } from 'node:child_process';
import { readFileSync } from 'node:fs';
import { fileURLToPath } from 'node:url';
import { parseArgs } from 'node:util';
import { serviceNames } from '@anabranch/servers';

const usage = `npm run images                          builds the four services' images with docker or podman
npm run images -- --tag 1.2.3           tags them anabranch/<service>:1.2.3; default: the version of package.json
npm run images -- --prefix reg.io/team  names them reg.io/team/<service>
npm run images -- --help                this text`;

const root = fileURLToPath(new URL('../', import.meta.url));
const { version } = JSON.parse(readFileSync(`${root}package.json`, 'utf8')) as { version: string };
const options = readOptions();

const engine = ['docker', 'podman'].find(answers);
if (engine === undefined) {
  console.error(
    'Neither docker nor podman answers: install one of them, or start its daemon. (`docker version` and `podman version` say what is wrong.)',
  );
  process.exit(69);
}

for (const service of serviceNames) {
  const image = `${options.prefix}/${service}:${options.tag}`;
  const { status } = run(
    engine,
    [
      'build',
      '--file=docker/Dockerfile',
      `--build-arg=APP=${service}`,
      `--build-arg=VERSION=${version}`,
      `--build-arg=REVISION=${revision()}`,
      `--tag=${image}`,
      `--tag=${options.prefix}/${service}:latest`,
      // Podman's own format has no health checks.
      ...(engine === 'podman' ? ['--format=docker'] : []),
      '.',
    ],
    { stdio: 'inherit' },
  );
  if (status !== 0) {
    console.error(`${image} could not be built: ${engine} says why above.`);
    process.exit(1);
  }
}

console.log('\nimage, MB in all, MB of layers on top of the base image');
for (const service of serviceNames) {
  const image = `${options.prefix}/${service}:${options.tag}`;
  const layers = layersOf(engine, image);
  // The first layer of ours makes the spool's folder.
  const first = layers.findIndex(({ createdBy }) => createdBy.includes('mkdir /spool'));
  console.log(`${image}  ${megabytes(layers)}  ${megabytes(layers.slice(0, first + 1))}`);
}

interface Layer {
  readonly bytes: number;
  readonly createdBy: string;
}

/** The newest first. */
function layersOf(command: string, image: string): Layer[] {
  const format = '{{.Size}}\t{{.CreatedBy}}';
  const { stdout } = run(command, ['history', '--no-trunc', `--format=${format}`, image]);
  return String(stdout)
    .trim()
    .split('\n')
    .map((line) => {
      const [size = '', ...createdBy] = line.split('\t');
      return { bytes: parseSize(size), createdBy: createdBy.join('\t') };
    });
}

/** Such as `11.7MB`: podman's `--human=false` doesn't change what a format gets. */
function parseSize(text: string): number {
  const [, number, unit = 'B'] = /^([\d.]+) ?([kMG]?B)$/.exec(text) ?? [];
  const units = { B: 1, kB: 1e3, MB: 1e6, GB: 1e9 };
  return Number(number) * units[unit as keyof typeof units];
}

function megabytes(layers: readonly Layer[]): string {
  return (layers.reduce((sum, { bytes }) => sum + bytes, 0) / 1e6).toFixed(1);
}

/** Whether there is that program, and for docker its daemon. */
function answers(command: string): boolean {
  return run(command, ['version']).status === 0;
}

/** The commit that is checked out, marked where the work tree differs from it. */
function revision(): string {
  const head = String(run('git', ['rev-parse', 'HEAD']).stdout ?? '').trim();
  const isDirty = String(run('git', ['status', '--porcelain']).stdout ?? '').trim() !== '';
  return head === '' ? 'unknown' : `${head}${isDirty ? '-dirty' : ''}`;
}

function run(command: string, args: readonly string[], how: SpawnSyncOptions = {}) {
  return spawnSync(command, args, { cwd: root, encoding: 'utf8', ...how });
}

function readOptions(): { tag: string; prefix: string } {
  try {
    const { values } = parseArgs({
      options: {
        tag: { type: 'string', default: version },
        prefix: { type: 'string', default: 'anabranch' },
        help: { type: 'boolean', default: false },
      },
    });
    if (values.help) {
      console.log(usage);
      process.exit(0);
    }
    return values;
  } catch (error) {
    console.error(`${(error as Error).message}\n\n${usage}`);
    process.exit(64);
  }
}
