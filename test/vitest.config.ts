import { defineConfig } from 'vitest/config';

export default defineConfig({
  test: {
    name: 'end-to-end',
    include: ['**/*.e2e.ts'],
    globalSetup: ['@anabranch/servers/vitest', './build-apps.ts'],
    // Four services, a broker and Postgres share the cores with a single test already.
    fileParallelism: false,
    testTimeout: 300_000,
  },
});
