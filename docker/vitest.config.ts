import { engineFault } from '@anabranch/servers/containers';
import { defineConfig } from 'vitest/config';

const fault = await engineFault();
if (fault !== undefined) {
  console.log(`The end-to-end test in containers isn't run: ${fault}.`);
}

export default defineConfig({
  test: {
    name: 'containers',
    // Without an engine there is no test here: one that was skipped would still be counted.
    include: fault === undefined ? ['*.e2e.ts'] : [],
    globalSetup: ['@anabranch/servers/vitest-containers'],
    testTimeout: 300_000,
    // After all the others: it takes the whole machine.
    sequence: { groupOrder: 1 },
  },
});
