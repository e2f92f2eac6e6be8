import { defineConfig } from 'vitest/config';

export default defineConfig({
  test: {
    name: 'servers',
    globalSetup: '@anabranch/servers/vitest',
  },
});
