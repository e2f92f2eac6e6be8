import { mkdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import path from 'node:path';
import { DatabaseSync } from 'node:sqlite';
import { ServersError } from './errors.ts';

/**
 * Makes a directory this process's own until release() or the end of the process.
 *
 * The lock is SQLite's on an empty database file, that is, the kernel's: it goes with the process
 * however that ends, so there are no stale locks to judge by pid or age, and taking one over
 * can't race. (Node has no flock of its own.)
 *
 * @throws ServersError DIRECTORY_IN_USE, naming the process that has it
 */
export class DirectoryLock {
  readonly #database: DatabaseSync;
  readonly #owner: string;

  constructor(directory: string) {
    mkdirSync(directory, { recursive: true });
    this.#owner = path.join(directory, 'owner.pid');
    this.#database = new DatabaseSync(path.join(directory, 'lock'), { timeout: 0 });
    try {
      this.#database.exec('BEGIN EXCLUSIVE');
    } catch (cause) {
      this.#database.close();
      const pid = readIfPresent(this.#owner) ?? 'unknown';
      throw new ServersError(
        'DIRECTORY_IN_USE',
        `${directory} is in use by the process with pid ${pid}: stop that one, or choose another directory.`,
        { cause },
      );
    }
    writeFileSync(this.#owner, String(process.pid));
  }

  release(): void {
    if (this.#database.isOpen) {
      rmSync(this.#owner, { force: true });
      this.#database.close();
    }
  }
}

function readIfPresent(file: string): string | undefined {
  try {
    return readFileSync(file, 'utf8');
  } catch {
    return undefined;
  }
}
