import { defineConfig } from 'vitest/config';

export default defineConfig({
  test: {
    globalSetup: '@anabranch/servers/vitest',
    // Servers start in seconds, and in many of them on a machine that does other things too.
    testTimeout: 60_000,
  },
});
