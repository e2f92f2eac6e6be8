// Writes docs/metrics.md. Run it after changing the metrics: node tools/write-metrics-reference.ts
import { writeFileSync } from 'node:fs';
import { metricsReference, metricsReferenceFile } from './checks/metrics-reference.ts';

writeFileSync(metricsReferenceFile, await metricsReference());
