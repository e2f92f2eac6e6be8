import { serviceNames } from '@anabranch/servers';
import { setTimeout as pause } from 'node:timers/promises';
import type { Fault } from '../field.ts';

const hour = 3_600_000;

export const clock = {
  'clock-stepped': {
    family: 'clock',
    async inject({ fleet, load, note }, dice) {
      const service = dice.of(serviceNames);
      const offset = dice.of([hour, -hour]);
      note(`the clock of ${service} is set ${offset > 0 ? 'forward' : 'back'} by an hour`);
      fleet.setClock(service, offset);
      await Promise.race([load.progress(500n), pause(10_000)]);
      fleet.setClock(service, 0);
      note(`the clock of ${service} is right again`);
    },
  },
} satisfies Record<string, Fault>;
