import { setTimeout as pause } from 'node:timers/promises';
import type { Fault } from '../field.ts';

export const resources = {
  'spool-full': {
    family: 'resources',
    async inject({ spoolDisk, fleet, note }, dice) {
      if (spoolDisk === null) {
        note('the disk of the spool can not be filled: this needs root');
        return;
      }
      note('the disk of the spool is full');
      await fleet.tolerating('batch-processor', async () => {
        spoolDisk.fill();
        await Promise.race([
          fleet.logged('batch-processor', ({ level }) => level === 'warn' || level === 'error'),
          pause(15_000),
        ]);
        await pause(dice.between(0, 4000));
        spoolDisk.free();
      });
      note('the disk of the spool has room');
    },
  },

  'out-of-memory': {
    family: 'resources',
    async inject({ fleet, note }, dice) {
      const service = dice.of(['stream-processor', 'batch-processor', 'ingest'] as const);
      const limit = `${dice.of([4, 8, 12])}MB`;
      note(`DuckDB in ${service} gets ${limit}`);
      await fleet.tolerating(service, async () => {
        await fleet.kill(service);
        const starved = fleet.start(service, 'a', { MEMORY_LIMIT: limit });
        await Promise.race([starved.exited, pause(dice.between(2000, 8000))]);
        await fleet.kill(service);
        fleet.start(service);
      });
      note(`DuckDB in ${service} has its memory again`);
    },
  },
} satisfies Record<string, Fault>;
