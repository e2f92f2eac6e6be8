import { readdirSync, readFileSync } from 'node:fs';

/** Of /proc: 1/100 s on every Linux that Node runs on. */
const ticksPerSecond = 100;

export interface ProcessCost {
  /** CPU, of the process and of the children that have ended. */
  readonly seconds: number;
  /** CPU by name of thread, of those that are alive. */
  readonly threads: Readonly<Record<string, number>>;
}

/** What a process has used since it began; null where the system doesn't tell (it's not Linux), or it has ended. */
export function costOf(pid: number): ProcessCost | null {
  try {
    const threads: Record<string, number> = {};
    for (const task of readdirSync(`/proc/${pid}/task`)) {
      const { name, own } = readStat(`/proc/${pid}/task/${task}/stat`);
      threads[name] = (threads[name] ?? 0) + own;
    }
    const { own, children } = readStat(`/proc/${pid}/stat`);
    return { seconds: own + children, threads };
  } catch {
    return null;
  }
}

/**
 * The same of a process and its children, ended ones included: Postgres. Threads are its children, by title.
 * @param without children that don't count
 */
export function costOfFamily(
  pid: number,
  without: ReadonlySet<number> = new Set(),
): ProcessCost | null {
  const parent = costOf(pid);
  if (parent === null) {
    return null;
  }
  const threads: Record<string, number> = { postmaster: parent.threads['postgres'] ?? 0 };
  let { seconds } = parent;
  for (const child of childrenOf(pid)) {
    const cost = without.has(child) ? null : costOf(child);
    if (cost !== null) {
      seconds += cost.seconds;
      const title = titleOf(child);
      threads[title] = (threads[title] ?? 0) + cost.seconds;
    }
  }
  return { seconds, threads };
}

/** Of several processes together; of none 0; null when one isn't known. */
export function sumOfCosts(costs: readonly (ProcessCost | null)[]): ProcessCost | null {
  const threads: Record<string, number> = {};
  let seconds = 0;
  for (const cost of costs) {
    if (cost === null) {
      return null;
    }
    seconds += cost.seconds;
    for (const [name, own] of Object.entries(cost.threads)) {
      threads[name] = (threads[name] ?? 0) + own;
    }
  }
  return { seconds, threads };
}

export function difference(
  after: ProcessCost | null,
  before: ProcessCost | null,
): ProcessCost | null {
  if (after === null) {
    return null;
  }
  return {
    seconds: after.seconds - (before?.seconds ?? 0),
    threads: Object.fromEntries(
      Object.entries(after.threads)
        .map(([name, seconds]): [string, number] => [name, seconds - (before?.threads[name] ?? 0)])
        .filter(([, seconds]) => seconds > 0)
        .toSorted(([, a], [, b]) => b - a),
    ),
  };
}

/** The most memory that a process has had resident, in bytes, shared pages included; null as above. */
export function peakMemoryOf(pid: number): number | null {
  try {
    const status = readFileSync(`/proc/${pid}/status`, 'utf8');
    return Number(/^VmHWM:\s+(\d+) kB$/m.exec(status)?.[1]) * 1024;
  } catch {
    return null;
  }
}

/** Of the largest of a process and its children. */
export function peakMemoryOfFamily(pid: number): number | null {
  const peaks = [pid, ...childrenOf(pid)].map((member) => peakMemoryOf(member) ?? 0);
  return Math.max(...peaks) || null;
}

/** CPU seconds that all processes of the machine have used since it started; null as above. */
export function costOfMachine(): number | null {
  try {
    const [user = 0, nice = 0, system = 0, , , irq = 0, softIrq = 0] = readFileSync(
      '/proc/stat',
      'utf8',
    )
      .split('\n', 1)[0]!
      .split(/\s+/)
      .slice(1)
      .map(Number);
    return (user + nice + system + irq + softIrq) / ticksPerSecond;
  } catch {
    return null;
  }
}

function childrenOf(pid: number): number[] {
  try {
    return readFileSync(`/proc/${pid}/task/${pid}/children`, 'utf8')
      .split(' ')
      .filter(Boolean)
      .map(Number);
  } catch {
    return [];
  }
}

/** What a server process of Postgres is for: `postgres: postgres DATABASE 127.0.0.1(PORT) idle` is a session. */
function titleOf(pid: number): string {
  try {
    const title = readFileSync(`/proc/${pid}/cmdline`, 'utf8').replaceAll('\0', ' ').trim();
    return / \d+\.\d+\.\d+\.\d+\(/.test(title) ? 'sessions' : title.replace(/^postgres: /, '');
  } catch {
    return 'ended';
  }
}

function readStat(file: string): { name: string; own: number; children: number } {
  const stat = readFileSync(file, 'utf8');
  // The second field is the name in parentheses, and may hold anything, parentheses too.
  const end = stat.lastIndexOf(')');
  const fields = stat
    .slice(end + 2)
    .split(' ')
    .map(Number);
  const ticks = (first: number): number =>
    ((fields[first] ?? 0) + (fields[first + 1] ?? 0)) / ticksPerSecond;
  return { name: stat.slice(stat.indexOf('(') + 1, end), own: ticks(11), children: ticks(13) };
}
