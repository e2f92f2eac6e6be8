import { setTimeout as pause } from 'node:timers/promises';
import type { Dice } from '../../random.ts';
import type { Fault, Field } from '../field.ts';
import type { Link, Proxy } from '../proxy.ts';

const either = (field: Field, dice: Dice): { proxy: Proxy; name: string } =>
  dice.chance(0.5)
    ? { proxy: field.kafkaProxy, name: 'Kafka' }
    : { proxy: field.postgresProxy.proxy, name: 'Postgres' };

const some = ({ links }: Proxy, dice: Dice): Link[] => {
  const chosen = [...links].filter(() => dice.chance(0.4));
  return chosen.length > 0 ? chosen : [...links].slice(0, 1);
};

export const network = {
  'network-slow': {
    family: 'network',
    async inject(field, dice) {
      const { proxy, name } = either(field, dice);
      proxy.delay = dice.between(20, 400);
      const milliseconds = dice.between(3000, 8000);
      field.note(`${name}: all is late by ${proxy.delay} ms, for ${milliseconds} ms`);
      await pause(milliseconds);
      proxy.delay = 0;
    },
  },

  'network-cut': {
    family: 'network',
    async inject(field, dice) {
      for (let times = dice.between(1, 4); times > 0; times--) {
        const { proxy, name } = either(field, dice);
        const links = some(proxy, dice);
        field.note(
          `${name}: ${links.length} of ${proxy.links.size} connections are cut mid-message`,
        );
        for (const link of links) {
          link.cutMidMessage();
        }
        await Promise.all(links.map((link) => Promise.race([link.closed, pause(2000)])));
        for (const link of links) {
          link.cut();
        }
      }
    },
  },

  'network-stalled': {
    family: 'network',
    async inject(field, dice) {
      const { proxy, name } = either(field, dice);
      const links = some(proxy, dice);
      const milliseconds = dice.between(3000, 15_000);
      field.note(
        `${name}: ${links.length} of ${proxy.links.size} connections stall for ${milliseconds} ms`,
      );
      for (const link of links) {
        link.stall();
      }
      await pause(milliseconds);
      for (const link of links) {
        link.flow();
      }
    },
  },

  'network-parted': {
    family: 'network',
    async inject(field, dice) {
      const { proxy, name } = either(field, dice);
      const milliseconds = dice.between(2000, 10_000);
      field.note(`${name}: nobody gets through for ${milliseconds} ms`);
      proxy.refusing = true;
      for (const link of proxy.links) {
        link.cut();
      }
      await pause(milliseconds);
      proxy.refusing = false;
    },
  },

  'network-black-hole': {
    family: 'network',
    async inject(field, dice) {
      const { proxy, name } = either(field, dice);
      const links = some(proxy, dice);
      field.note(
        `${name}: ${links.length} of ${proxy.links.size} connections swallow what is sent, for ever`,
      );
      for (const link of links) {
        link.swallow();
      }
      // What had been produced so far may be applied already, on the connections that are left.
      await field.load.progress();
    },
  },
} satisfies Record<string, Fault>;
