import type { BuildOptions } from 'rolldown';

/** Optional peers that Nest and its clients import lazily, and that no app here uses. */
const unusedPeers = [
  /^@fastify\/(multipart|static|view)$/,
  /^@nestjs\/(microservices|platform-express|websockets)/,
  /^class-(transformer|validator)$/,
  'pg-native',
];

/** Packages with a native library: they stay beside the bundle. */
const native = [/^@duckdb\//, /^@node-rs\//, 'snappy', 'lz4-napi'];

// Run from an app's folder: bundles src/main.ts and all that it imports into dist/main.mjs.
export default {
  input: 'src/main.ts',
  platform: 'node',
  tsconfig: '../../tsconfig.json',
  external: [...unusedPeers, ...native],
  output: { file: 'dist/main.mjs', format: 'esm', sourcemap: true, codeSplitting: false },
} satisfies BuildOptions;
