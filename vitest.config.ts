import { defineConfig } from 'vitest/config';

export default defineConfig({
  test: {
    projects: ['apps/*', 'libs/*', 'test', 'test/fire', 'tools/checks', 'docker', 'bench'],
  },
});
