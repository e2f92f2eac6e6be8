import type { Extent } from './filled-topic.ts';
import type { Orders } from './orders.ts';
import type { ProcessCost } from './process-cost.ts';

/** How far a contender is. */
export interface Progress {
  /** Records whose share of the result is committed in Postgres. */
  readonly committed: number;
  /** Whether that is all. */
  readonly done: boolean;
  /** Whether, besides, nothing is left to do for it. */
  readonly settled: boolean;
}

/** What turns a topic's records into a table in Postgres: our services, or a peer. */
export interface Contender {
  /** Milliseconds between two looks at its progress: as often as looking costs little. */
  readonly pollMilliseconds: number;
  start(): Promise<void>;
  /** @param extent what there is to do */
  progress(extent: Extent): Promise<Progress>;
  /** CPU by process that each has used since it began; null where that isn't known. */
  costs(): Readonly<Record<string, ProcessCost | null>>;
  /** Bytes, of each process. */
  peakMemory(): Readonly<Record<string, number | null>>;
  /** @throws when a process of it has ended, with the end of its log */
  checkRunning(): Promise<void>;
  /** @throws when a row in Postgres isn't what the records say */
  verify(orders: Orders): Promise<void>;
  /** Ends its processes and removes what they left in Kafka and Postgres. */
  close(): Promise<void>;
}
