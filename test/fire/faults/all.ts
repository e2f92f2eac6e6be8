import type { Fault } from '../field.ts';
import { broker } from './broker.ts';
import { clock } from './clock.ts';
import { network } from './network.ts';
import { postgres } from './postgres.ts';
import { processes } from './processes.ts';
import { resources } from './resources.ts';
import { sources } from './sources.ts';

const all = {
  ...processes,
  ...broker,
  ...postgres,
  ...network,
  ...clock,
  ...resources,
  ...sources,
};

export type FaultName = keyof typeof all;

export const faults: Readonly<Record<FaultName, Fault>> = all;

export const faultNames = Object.keys(all) as FaultName[];
