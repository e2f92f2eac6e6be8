import { readFileSync } from 'node:fs';
import type { Fleet } from './fleet.ts';

const everyMilliseconds = 250;

/** Samples how much memory each service has resident. */
export class MemoryWatch {
  /** Bytes, per service: the most of any instance. */
  readonly most = new Map<string, number>();
  readonly #timer: NodeJS.Timeout;

  constructor(fleet: Fleet) {
    this.#timer = setInterval(() => {
      for (const { service, pid } of fleet.all()) {
        this.most.set(service, Math.max(this.most.get(service) ?? 0, residentBytes(pid)));
      }
    }, everyMilliseconds);
  }

  end(): void {
    clearInterval(this.#timer);
  }
}

function residentBytes(pid: number): number {
  try {
    const kilobytes = /^VmRSS:\s+(\d+) kB$/m.exec(readFileSync(`/proc/${pid}/status`, 'utf8'))?.[1];
    return Number(kilobytes ?? 0) * 1024;
  } catch {
    // It has just ended.
    return 0;
  }
}
