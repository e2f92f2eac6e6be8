import type { Fault } from '../field.ts';

export const sources = {
  'partitions-added': {
    family: 'load',
    async inject({ load, note }) {
      note('a partition is added to each source');
      await load.addPartitions();
    },
  },
} satisfies Record<string, Fault>;
