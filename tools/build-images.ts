import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { readFileSync } from 'node:fs';
import { text } from 'node:stream/consumers';
import { fileURLToPath } from 'node:url';
import { type ServiceName, serviceNames } from '@anabranch/servers';

export interface ImageOptions {
  /** What the names begin with: `anabranch` gives `anabranch/ingest`. */
  readonly prefix: string;
  /** Default: the version of package.json. */
  readonly tag?: string | undefined;
  /** Shows what the engine prints. */
  readonly verbose: boolean;
}

export interface BuiltImage {
  readonly service: ServiceName;
  readonly name: string;
  readonly bytes: number;
  /** Of the layers on top of the base image. */
  readonly ownBytes: number;
}

/** The user can mend it: the message says how. */
export class ImageError extends Error {
  readonly code: 'NO_ENGINE' | 'BUILD_FAILED';

  constructor(code: ImageError['code'], message: string) {
    super(message);
    this.code = code;
  }
}

const root = fileURLToPath(new URL('../', import.meta.url));

/**
 * Builds the image of each service with docker or podman, whichever answers.
 * @throws ImageError
 */
export async function buildImages({ prefix, tag, verbose }: ImageOptions): Promise<BuiltImage[]> {
  const engine = await findEngine();
  if (engine === undefined) {
    throw new ImageError(
      'NO_ENGINE',
      'Neither docker nor podman answers: install one of them, or start its daemon. (`docker version` and `podman version` say what is wrong.)',
    );
  }
  const { version } = JSON.parse(readFileSync(`${root}package.json`, 'utf8')) as {
    version: string;
  };
  const labels = [`--build-arg=VERSION=${version}`, `--build-arg=REVISION=${await revision()}`];
  const images: BuiltImage[] = [];
  for (const service of serviceNames) {
    const name = `${prefix}/${service}:${tag ?? version}`;
    await build(engine, service, name, labels, verbose);
    const layers = await layersOf(engine, name);
    // The first layer of ours makes the spool's folder.
    const first = layers.findIndex(({ createdBy }) => createdBy.includes('mkdir /spool'));
    const ownBytes = sum(layers.slice(0, first + 1));
    images.push({ service, name, bytes: sum(layers), ownBytes });
  }
  return images;
}

/** A docker whose daemon answers, or podman. */
async function findEngine(): Promise<string | undefined> {
  for (const command of ['docker', 'podman']) {
    if ((await run(command, ['version'])).code === 0) {
      return command;
    }
  }
  return undefined;
}

async function build(
  engine: string,
  service: ServiceName,
  name: string,
  labels: readonly string[],
  verbose: boolean,
): Promise<void> {
  const { code, output } = await run(
    engine,
    [
      'build',
      '--file=docker/Dockerfile',
      `--build-arg=APP=${service}`,
      ...labels,
      `--tag=${name}`,
      // Podman's own format has no health checks.
      ...(engine === 'podman' ? ['--format=docker'] : []),
      '.',
    ],
    verbose,
  );
  if (code !== 0) {
    const why = verbose ? ' says why above.' : ` says:\n${output}`;
    throw new ImageError('BUILD_FAILED', `${name} could not be built: ${engine}${why}`);
  }
}

interface Layer {
  readonly bytes: number;
  readonly createdBy: string;
}

/** The newest first. */
async function layersOf(engine: string, image: string): Promise<Layer[]> {
  const format = '{{.Size}}\t{{.CreatedBy}}';
  const { output } = await run(engine, ['history', '--no-trunc', `--format=${format}`, image]);
  return output
    .trim()
    .split('\n')
    .map((line) => {
      const [size = '', ...createdBy] = line.split('\t');
      return { bytes: parseSize(size), createdBy: createdBy.join('\t') };
    });
}

/** Such as `11.7MB`: podman's `--human=false` doesn't change what a format gets. */
function parseSize(size: string): number {
  const units = { B: 1, kB: 1e3, MB: 1e6, GB: 1e9 };
  const [, number, unit = 'B'] = /^([\d.]+) ?([kMG]?B)$/.exec(size) ?? [];
  return Number(number) * units[unit as keyof typeof units];
}

function sum(layers: readonly Layer[]): number {
  return layers.reduce((total, { bytes }) => total + bytes, 0);
}

/** The commit that is checked out, marked where the work tree differs from it. */
async function revision(): Promise<string> {
  const head = await run('git', ['rev-parse', 'HEAD']);
  const { output: changes } = await run('git', ['status', '--porcelain']);
  return head.code === 0 ? `${head.output.trim()}${changes === '' ? '' : '-dirty'}` : 'unknown';
}

interface Run {
  /** null: there is no such program. */
  readonly code: number | null;
  /** What it printed, unless that was shown; of a success only the standard output. */
  readonly output: string;
}

async function run(command: string, args: readonly string[], show = false): Promise<Run> {
  const child = spawn(command, args, { cwd: root, stdio: show ? 'inherit' : 'pipe' });
  const outputs = Promise.all(
    [child.stdout, child.stderr].map(async (stream) => (stream === null ? '' : text(stream))),
  );
  try {
    const [code] = (await once(child, 'close')) as [number | null];
    const [stdout, stderr] = await outputs;
    return { code, output: (code === 0 ? stdout : `${stdout}${stderr}`) ?? '' };
  } catch (error) {
    return { code: null, output: String(error) };
  }
}
