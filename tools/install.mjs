// Installs the dependencies when node_modules is missing or older than package-lock.json.
// Runs before `npm start` and `npm test` on whatever Node the machine has, so it uses nothing
// else: the Node that the project runs on comes with the dependencies.
import { spawnSync } from 'node:child_process';
import { statSync } from 'node:fs';
import { fileURLToPath } from 'node:url';

const root = fileURLToPath(new URL('../', import.meta.url));

/** @param {string} file */
function modifiedAt(file) {
  return statSync(`${root}${file}`, { throwIfNoEntry: false })?.mtimeMs ?? 0;
}

// npm writes this hidden copy of the lock file last, once everything else is in place.
if (modifiedAt('node_modules/.package-lock.json') < modifiedAt('package-lock.json')) {
  console.log('Installing dependencies ...');
  const { status } = spawnSync('npm', ['ci', '--include=dev', '--loglevel=error'], {
    cwd: root,
    stdio: 'inherit',
  });
  if (status !== 0) {
    console.error('The dependencies could not be installed: npm says why above.');
    process.exit(1);
  }
}
