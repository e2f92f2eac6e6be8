import type { LocalKafka, LocalPostgres } from '@anabranch/servers';
import type { Chain } from '../chain.ts';
import type { Dice } from '../random.ts';
import type { Fleet } from './fleet.ts';
import type { FireLoad } from './load.ts';
import type { PostgresProxy } from './postgres-proxy.ts';
import type { Proxy } from './proxy.ts';

/** All that a fault can get at. */
export interface Field {
  readonly chain: Chain;
  readonly fleet: Fleet;
  readonly load: FireLoad;
  readonly kafka: LocalKafka;
  readonly postgres: LocalPostgres;
  /** The services' way to the servers. */
  readonly kafkaProxy: Proxy;
  readonly postgresProxy: PostgresProxy;
  /** A small file system of which the batch-processor has its spool; null: nobody may mount one. */
  readonly spoolDisk: SmallDisk | null;
  /** The same for a tablespace of Postgres, which is called `small`. */
  readonly tablespaceDisk: SmallDisk | null;
  /** Enters something in the round's log. */
  readonly note: (what: string) => void;
}

/** A file system that can be filled up. */
export interface SmallDisk {
  readonly path: string;
  fill(): void;
  free(): void;
}

export type Family =
  'processes' | 'broker' | 'postgres' | 'network' | 'clock' | 'resources' | 'load';

export interface Fault {
  readonly family: Family;
  /** Does it and undoes it; the chain needn't have caught up when this returns. */
  inject(field: Field, dice: Dice): Promise<void>;
}
