import { readFileSync } from 'node:fs';
import { fileURLToPath } from 'node:url';
import { expect, test } from 'vitest';
import { parse } from 'yaml';
import { config as batchConfig } from '../../apps/batch-processor/src/config.ts';
import { config as fusionConfig } from '../../apps/fusion/src/config.ts';
import { config as ingestConfig } from '../../apps/ingest/src/config.ts';
import { config as streamConfig } from '../../apps/stream-processor/src/config.ts';
import { services } from './known-metrics.ts';

const configs = {
  ingest: ingestConfig,
  'stream-processor': streamConfig,
  'batch-processor': batchConfig,
  fusion: fusionConfig,
};

interface Compose {
  readonly services: Readonly<Record<string, Service>>;
  readonly secrets: Readonly<Record<string, { readonly file: string }>>;
}

interface Service {
  readonly environment: Readonly<Record<string, string>>;
  readonly secrets: readonly (string | { readonly source: string; readonly target: string })[];
}

const file = fileURLToPath(new URL('../../docker/security/compose.yaml', import.meta.url));
const compose = parse(readFileSync(file, 'utf8'), { merge: true }) as Compose;

test('the secured services are all there, each as a user of its own', () => {
  expect(Object.keys(compose.services).toSorted()).toEqual([...services].toSorted());
  for (const service of services) {
    expect(compose.services[service]?.environment['KAFKA_USERNAME']).toBe(`anabranch-${service}`);
  }
});

test.each(services)('the settings of %s exist, and what they name is mounted', (service) => {
  const { environment, secrets } = compose.services[service]!;
  const mounted = secrets.map((secret) => (typeof secret === 'string' ? secret : secret.target));
  for (const secret of secrets) {
    expect(compose.secrets).toHaveProperty([typeof secret === 'string' ? secret : secret.source]);
  }
  for (const [name, value] of Object.entries(environment)) {
    expect(Object.keys(configs[service].shape)).toContain(name.replace(/_FILE$/, ''));
    if (name.endsWith('_FILE')) {
      expect(mounted.map((target) => `/run/secrets/${target}`)).toContain(value);
    }
  }
  // No password in the environment, which `docker inspect` shows.
  const isPassword = (name: string): boolean =>
    /PASSWORD|KEY/.test(name) && !name.endsWith('_FILE');
  expect(Object.keys(environment).filter(isPassword)).toEqual([]);
  expect(environment).toMatchObject({ KAFKA_SSL: 'true' });
});
