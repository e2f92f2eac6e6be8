import { defineConfig } from 'vitest/config';

export default defineConfig({
  test: {
    globalSetup: '@anabranch/servers/vitest',
    testTimeout: 60_000,
  },
});
