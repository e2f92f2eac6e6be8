import { defineConfig } from 'vitest/config';

export default defineConfig({
  test: {
    name: 'fusion',
    globalSetup: '@anabranch/servers/vitest',
    testTimeout: 60_000,
  },
});
