// Copies the packages that a service's bundle expects beside it, with all that they depend on:
//   node tools/native-packages.ts /native      → /native/node_modules
// They come from node_modules as npm ci has filled it: the lock file's versions, and of the packages
// that exist for each platform the one of this machine.
import { cpSync, existsSync, readdirSync, readFileSync } from 'node:fs';
import path from 'node:path';
import { fileURLToPath } from 'node:url';
import rolldownConfig from '../rolldown.config.ts';

interface Manifest {
  readonly dependencies?: Readonly<Record<string, string>>;
  readonly optionalDependencies?: Readonly<Record<string, string>>;
}

const installed = fileURLToPath(new URL('../node_modules', import.meta.url));
const [destination] = process.argv.slice(2);
if (destination === undefined) {
  console.error('usage: node tools/native-packages.ts DESTINATION');
  process.exit(64);
}

const copied = new Set<string>();
for (const name of installedPackages().filter(isExternal)) {
  copy(name, path.join(destination, 'node_modules'));
}
console.log([...copied].toSorted().join('\n'));

function installedPackages(): string[] {
  return readdirSync(installed).flatMap((entry) =>
    entry.startsWith('@')
      ? readdirSync(path.join(installed, entry)).map((name) => `${entry}/${name}`)
      : [entry],
  );
}

function isExternal(name: string): boolean {
  return rolldownConfig.external.some((pattern) =>
    typeof pattern === 'string' ? pattern === name : pattern.test(name),
  );
}

function copy(name: string, to: string): void {
  const from = path.join(installed, name);
  if (copied.has(name)) {
    return;
  }
  copied.add(name);
  const manifest = JSON.parse(readFileSync(path.join(from, 'package.json'), 'utf8')) as Manifest;
  cpSync(from, path.join(to, name), { recursive: true });
  for (const dependency of Object.keys(manifest.dependencies ?? {})) {
    copy(dependency, to);
  }
  for (const dependency of Object.keys(manifest.optionalDependencies ?? {})) {
    // Those of other platforms aren't installed.
    if (existsSync(path.join(installed, dependency))) {
      copy(dependency, to);
    }
  }
}
