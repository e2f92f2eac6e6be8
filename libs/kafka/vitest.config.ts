import { defineConfig } from 'vitest/config';

export default defineConfig({
  test: {
    globalSetup: ['@anabranch/servers/vitest'],
    // A rebalance waits for the slowest member, and a vanished one's transaction for its time limit.
    testTimeout: 60_000,
  },
});
