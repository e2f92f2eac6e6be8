import { defineConfig } from 'vitest/config';

// Beside the sources: the pure parts alone. What needs servers is the bench itself.
export default defineConfig({ test: { name: '@anabranch/bench' } });
