import { setTimeout as pause } from 'node:timers/promises';
import type { Fault } from '../field.ts';

export const broker = {
  'broker-killed': {
    family: 'broker',
    async inject({ kafka, note }, dice) {
      note('SIGKILL: the broker');
      await kafka.kill();
      await pause(dice.between(0, 2000));
      await kafka.start();
      note('the broker answers');
    },
  },

  'broker-restarted': {
    family: 'broker',
    async inject({ kafka, note }) {
      note('SIGTERM: the broker');
      await kafka.restart();
      note('the broker answers');
    },
  },

  'broker-paused': {
    family: 'broker',
    async inject({ kafka, note }, dice) {
      const milliseconds = dice.between(2000, 14_000);
      note(`SIGSTOP: the broker, for ${milliseconds} ms`);
      kafka.pause();
      await pause(milliseconds);
      kafka.resume();
    },
  },
} satisfies Record<string, Fault>;
