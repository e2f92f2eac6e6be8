import { execFileSync } from 'node:child_process';
import { readFileSync } from 'node:fs';
import path from 'node:path';

/** A process as more than its pid, which another may have by now. */
export interface ProcessIdentity {
  pid: number;
  /** The program's name, without its folder, cut to 15 letters. */
  command: string;
  /** Equal only for the same process; opaque. */
  started: string;
}

/** @returns undefined if there is no such process (one that ended and wasn't reaped included) */
export function identify(pid: number): ProcessIdentity | undefined {
  try {
    if (process.platform !== 'linux') {
      // lstart has 24 letters: Wed Nov 25 14:56:06 2026
      const line = execFileSync('ps', ['-o', 'lstart=,comm=', '-p', String(pid)], {
        encoding: 'utf8',
        stdio: ['ignore', 'pipe', 'ignore'],
      }).trim();
      return { pid, command: path.basename(line.slice(24).trim()), started: line.slice(0, 24) };
    }
    const stat = readFileSync(`/proc/${pid}/stat`, 'utf8');
    // The second field is the command in parentheses and may hold anything, parentheses too.
    const fields = stat.slice(stat.lastIndexOf(')') + 2).split(' ');
    const [state, ticks] = [fields[0], fields[19]];
    if (state === 'Z' || state === 'X' || ticks === undefined) {
      return undefined;
    }
    const boot = readFileSync('/proc/sys/kernel/random/boot_id', 'utf8').trim();
    const command = stat.slice(stat.indexOf('(') + 1, stat.lastIndexOf(')'));
    return { pid, command, started: `${boot}/${ticks}` };
  } catch {
    return undefined;
  }
}

export function isRunning({ pid, started }: Pick<ProcessIdentity, 'pid' | 'started'>): boolean {
  return identify(pid)?.started === started;
}

/** The children of a process's main thread. Empty where the system doesn't tell. */
export function childrenOf(pid: number): number[] {
  try {
    const children = readFileSync(`/proc/${pid}/task/${pid}/children`, 'utf8');
    return children.split(' ').filter(Boolean).map(Number);
  } catch {
    return [];
  }
}
