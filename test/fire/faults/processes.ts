import { type ServiceName, serviceNames } from '@anabranch/servers';
import { setTimeout as pause } from 'node:timers/promises';
import type { Fault, Field } from '../field.ts';

/** What a service may end with when it is asked to: in time, or at its deadline. */
const stopCodes: readonly (number | null)[] = [0, 76];

async function stop(field: Field, service: ServiceName, instance: string): Promise<void> {
  const code = await field.fleet.stop(service, instance);
  if (!stopCodes.includes(code)) {
    throw new Error(`${service} ${instance} was asked to stop and ended with exit code ${code}.`);
  }
}

export const processes = {
  kill: {
    family: 'processes',
    async inject(field, dice) {
      const service = dice.of(serviceNames);
      field.note(`SIGKILL: ${service}`);
      await field.fleet.kill(service);
      field.fleet.start(service);
    },
  },

  'kill-all': {
    family: 'processes',
    async inject({ fleet, note }) {
      note('SIGKILL: all services');
      await Promise.all(serviceNames.map((service) => fleet.kill(service)));
      fleet.startAll();
    },
  },

  restart: {
    family: 'processes',
    async inject(field, dice) {
      const service = dice.of(serviceNames);
      field.note(`SIGTERM: ${service}`);
      await stop(field, service, 'a');
      field.fleet.start(service);
    },
  },

  zombie: {
    family: 'processes',
    async inject(field, dice) {
      const { fleet, note } = field;
      const service = dice.of(serviceNames);
      const sleeper = fleet.get(service);
      note(`SIGSTOP: ${service} a`);
      sleeper.pause();
      fleet.start(service, 'b');
      await fleet.has(service, 'b', 'all');
      note(`SIGCONT: ${service} a, whose partitions b has`);
      sleeper.resume();
      await fleet.has(service, 'a', 'one');
      await stop(field, service, 'b');
    },
  },

  'zombie-with-transaction': {
    family: 'processes',
    async inject(field) {
      const { fleet, postgresProxy, note } = field;
      const sleeper = fleet.get('fusion');
      // In front of BEGIN: no timeout of Postgres ends a session that has no transaction yet.
      const { release } = await postgresProxy.ambush({ statement: 0, how: 'hold' });
      sleeper.pause();
      note('SIGSTOP: fusion a, with a transaction on its way to Postgres');
      fleet.start('fusion', 'b');
      await fleet.has('fusion', 'b', 'all');
      await field.load.caughtUp();
      note('SIGCONT: fusion a, whose partials b has applied');
      release();
      sleeper.resume();
      await fleet.has('fusion', 'a', 'one');
      await stop(field, 'fusion', 'b');
    },
  },

  'second-instances': {
    family: 'processes',
    async inject(field, dice) {
      const { fleet, note } = field;
      const services = serviceNames.filter(() => dice.chance(0.6));
      const isKilled = dice.chance(0.5);
      note(`second instances: ${services.join(', ')}`);
      for (const service of services) {
        fleet.start(service, 'b');
      }
      for (const service of services) {
        await fleet.has(service, 'b', 'one');
      }
      await pause(dice.between(0, 3000));
      note(`second instances ${isKilled ? 'are killed' : 'leave'}`);
      for (const service of services) {
        await (isKilled ? fleet.kill(service, 'b') : stop(field, service, 'b'));
      }
    },
  },
} satisfies Record<string, Fault>;
