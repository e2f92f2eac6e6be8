import { spawnSync } from 'node:child_process';
import {
  cpSync,
  existsSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readlinkSync,
  symlinkSync,
} from 'node:fs';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { fileURLToPath } from 'node:url';

const root = fileURLToPath(new URL('../../', import.meta.url));

/**
 * Copies the work tree as it is, without what Git ignores. Its packages are links to those of the tree,
 * but for the workspaces' and kafkajs, which are its own: so a change of either stays in the copy.
 * @returns the copy's folder
 */
export function makeScratchCopy(): string {
  const copy = mkdtempSync(path.join(tmpdir(), 'anabranch-mutants-'));
  for (const file of listFiles()) {
    const target = path.join(copy, file);
    mkdirSync(path.dirname(target), { recursive: true });
    cpSync(path.join(root, file), target);
  }
  const packages = path.join(root, 'node_modules');
  const own = path.join(copy, 'node_modules');
  mkdirSync(path.join(own, '@anabranch'), { recursive: true });
  for (const name of [...readdirSync(packages)].filter((entry) => entry !== '.cache')) {
    const [from, to] = [path.join(packages, name), path.join(own, name)];
    if (name === 'kafkajs') {
      cpSync(from, to, { recursive: true });
    } else if (name === '@anabranch') {
      for (const workspace of readdirSync(from)) {
        symlinkSync(readlinkSync(path.join(from, workspace)), path.join(to, workspace));
      }
    } else {
      symlinkSync(from, to);
    }
  }
  // What npm couldn't hoist.
  for (const folder of ['apps', 'libs', 'tools']) {
    for (const workspace of readdirSync(path.join(root, folder))) {
      const nested = path.join(folder, workspace, 'node_modules');
      if (existsSync(path.join(root, nested)) && existsSync(path.join(copy, folder, workspace))) {
        linkPackages(nested, copy);
      }
    }
  }
  return copy;
}

/** Not the folder itself: tools write their caches into it. */
function linkPackages(nested: string, copy: string): void {
  mkdirSync(path.join(copy, nested), { recursive: true });
  for (const name of readdirSync(path.join(root, nested))) {
    if (!name.startsWith('.')) {
      symlinkSync(path.join(root, nested, name), path.join(copy, nested, name));
    }
  }
}

function listFiles(): string[] {
  const { stdout, status, stderr } = spawnSync(
    'git',
    ['ls-files', '-z', '--cached', '--others', '--exclude-standard'],
    { cwd: root, encoding: 'utf8', maxBuffer: 64 * 1024 * 1024 },
  );
  if (status !== 0) {
    throw new Error(`The work tree's files could not be listed: ${stderr}`);
  }
  // Of those in the index, some may have been removed.
  return stdout.split('\0').filter((file) => file !== '' && existsSync(path.join(root, file)));
}
