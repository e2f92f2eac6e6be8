import { readFileSync } from 'node:fs';
import { expect, test } from 'vitest';
import { metricsReference, metricsReferenceFile } from './metrics-reference.ts';

test('docs/metrics.md is what node tools/write-metrics-reference.ts writes', async () => {
  expect(readFileSync(metricsReferenceFile, 'utf8')).toBe(await metricsReference());
});
