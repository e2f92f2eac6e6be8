import { configDefaults, defineConfig } from 'vitest/config';

export default defineConfig({
  test: {
    name: 'end-to-end',
    include: ['**/*.e2e.ts'],
    // It has servers of its own, and so a project of its own.
    exclude: [...configDefaults.exclude, 'fire/fire.e2e.ts'],
    globalSetup: ['@anabranch/servers/vitest', './build-apps.ts'],
    // Four services, a broker and Postgres share the cores with a single test already.
    fileParallelism: false,
    testTimeout: 300_000,
  },
});
