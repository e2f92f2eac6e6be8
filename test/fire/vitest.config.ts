import { defineConfig } from 'vitest/config';

export default defineConfig({
  test: {
    name: 'fire',
    include: ['fire.e2e.ts', '*.test.ts'],
    globalSetup: ['../build-apps.ts'],
    // Each test has servers of its own, which it kills.
    fileParallelism: false,
    testTimeout: 600_000,
  },
});
