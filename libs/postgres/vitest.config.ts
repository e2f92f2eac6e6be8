import { defineConfig } from 'vitest/config';

export default defineConfig({
  test: {
    name: 'postgres',
    globalSetup: '@anabranch/servers/vitest',
    testTimeout: 60_000,
  },
});
