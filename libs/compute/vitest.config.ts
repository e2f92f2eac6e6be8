import { defineConfig } from 'vitest/config';

export default defineConfig({
  test: {
    // Seconds where the machine is idle, but DuckDB competes for it with whatever else is tested.
    testTimeout: 60_000,
  },
});
