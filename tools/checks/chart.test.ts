import { spawnSync } from 'node:child_process';
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { fileURLToPath } from 'node:url';
import { internalTopics } from '@anabranch/contract';
import { kafkaConnection, readConfig } from '@anabranch/service';
import { afterAll, describe, expect, test } from 'vitest';
import { parseAllDocuments } from 'yaml';
import { config as batchConfig } from '../../apps/batch-processor/src/config.ts';
import { config as fusionConfig } from '../../apps/fusion/src/config.ts';
import { config as ingestConfig } from '../../apps/ingest/src/config.ts';
import { config as streamConfig } from '../../apps/stream-processor/src/config.ts';
import { findHelm } from './helm.ts';
import { services } from './known-metrics.ts';
import { type Manifest, schemaFaults, unknownFields } from './kubernetes.ts';

const configs = {
  ingest: ingestConfig,
  'stream-processor': streamConfig,
  'batch-processor': batchConfig,
  fusion: fusionConfig,
};

/** As much of a StatefulSet as is looked at here. */
interface StatefulSet extends Manifest {
  readonly spec: {
    readonly serviceName: string;
    readonly replicas?: number;
    readonly template: {
      readonly metadata: { readonly annotations: Readonly<Record<string, string>> };
      readonly spec: {
        readonly automountServiceAccountToken: boolean;
        readonly terminationGracePeriodSeconds: number;
        readonly securityContext: object;
        readonly containers: readonly [Container];
        readonly volumes: readonly Volume[];
      };
    };
  };
}

interface Container {
  readonly image: string;
  readonly env: readonly { readonly name: string; readonly value?: string }[];
  readonly securityContext: object;
  readonly resources: { readonly requests: object; readonly limits: object };
  readonly ports: readonly { readonly containerPort: number }[];
  readonly volumeMounts: readonly { readonly name: string; readonly mountPath: string }[];
}

interface Volume {
  readonly name: string;
  readonly configMap?: { readonly name: string };
  readonly projected?: {
    readonly sources: readonly {
      readonly secret: { readonly name: string; readonly items: readonly Item[] };
    }[];
  };
}

interface Item {
  readonly key: string;
  readonly path: string;
}

interface ScaledObject extends Manifest {
  readonly spec: {
    readonly scaleTargetRef: { readonly name: string };
    readonly triggers: readonly { readonly metadata: Readonly<Record<string, string>> }[];
  };
}

/** Any one. */
const certificate = `-----BEGIN CERTIFICATE-----
MIIBdjCCARugAwIBAgIUJGP3IqQBzuST2N7KPO0JChsPA3kwCgYIKoZIzj0EAwIw
DzENMAsGA1UEAwwEdGVzdDAgFw0yNjExMjUxODIwMjBaGA8yMTI2MTEwMTE4MjAy
MFowDzENMAsGA1UEAwwEdGVzdDBZMBMGByqGSM49AgEGCCqGSM49AwEHA0IABLyM
kV/o1kj970N2uQbbY6rRiM0ij1mTi9EavBS/5Jd4SvfdTVVp2bPwaxE7AunEMO+4
5FxpvqZjhEkmH06rcEKjUzBRMB0GA1UdDgQWBBRNZnZUlMcduQoH9Rr6CCyQ8I2T
0jAfBgNVHSMEGDAWgBRNZnZUlMcduQoH9Rr6CCyQ8I2T0jAPBgNVHRMBAf8EBTAD
AQH/MAoGCCqGSM49BAMCA0kAMEYCIQCtiEtDAJG7Egl/Hv8YLDMGtV5J1ePYx2Wm
aT/PWSlOlwIhANCSAoAuDNjpSharmYrz0zbPLPa/xOP4+h0FC1/3JTPi
-----END CERTIFICATE-----`;

const root = fileURLToPath(new URL('../../', import.meta.url));
const chart = path.join(root, 'docker/helm/anabranch');
const temporary = mkdtempSync(path.join(tmpdir(), 'anabranch-chart-'));
afterAll(() => {
  rmSync(temporary, { recursive: true });
});

const example = ['anabranch.yaml', 'orders.avsc'].flatMap((file) => [
  '--set-file',
  `definition.files.${file.replace('.', String.raw`\.`)}=${root}examples/quick-start/${file}`,
]);

const found = findHelm();
// Empty: not as skipped tests, which would look as if they could be had.
const programs = 'program' in found ? [found.program] : [];
if ('missing' in found) {
  console.log(`The Helm chart was not rendered, since there is no helm: ${found.missing}.`);
}

test('CI has helm', () => {
  expect(process.env['CI'] && 'missing' in found ? found.missing : '').toBe('');
});

test('the settings of the chart are those of the services', () => {
  const { definitions } = JSON.parse(readFileSync(`${chart}/values.schema.json`, 'utf8')) as {
    definitions: Readonly<Record<string, { enum: string[] }>>;
  };
  // Which the chart sets itself.
  const set = /^(INSTANCE|HOST|PORT|ANABRANCH_DEFINITION|SHUTDOWN_SECONDS|SPOOL_DIRECTORY)$/;
  const names = services.map((service) =>
    Object.keys(configs[service].shape).filter((name) => !set.test(name)),
  );
  const common = names[0]?.filter((name) => names.every((others) => others.includes(name)));
  const expected = Object.fromEntries([
    ['common-setting', common?.toSorted()],
    ...services.map((service, index) => [`${service}-setting`, names[index]?.toSorted()] as const),
  ]);
  const listed = Object.keys(expected).map(
    (name) => [name, definitions[name]?.enum.toSorted()] as const,
  );
  expect(Object.fromEntries(listed)).toEqual(expected);
});

describe.each(programs)('rendered by %s', (program) => {
  const helm = (command: string[], values: string, more: readonly string[] = example) =>
    spawnSync(
      program,
      [...command, chart, '--values', `${chart}/ci/${values}-values.yaml`, ...more],
      {
        encoding: 'utf8',
        env: { ...process.env, HELM_CACHE_HOME: temporary, HELM_CONFIG_HOME: temporary },
      },
    );
  const rendered = new Map<string, Manifest[]>();
  const render = (values: string, ...more: string[]): Manifest[] => {
    const key = [values, ...more].join(' ');
    const known = rendered.get(key);
    if (known !== undefined) {
      return known;
    }
    const { status, stdout, stderr } = helm(['template', 'demo'], values, [...example, ...more]);
    if (status !== 0) {
      throw new Error(stderr);
    }
    const manifests = parseAllDocuments(stdout)
      .map((document) => document.toJS() as Manifest | null)
      .filter((manifest) => manifest !== null);
    rendered.set(key, manifests);
    return manifests;
  };
  const refusal = (...more: string[]): string => {
    const { status, stderr } = helm(['template', 'demo'], 'least', [...example, ...more]);
    expect(status).not.toBe(0);
    return stderr;
  };

  describe.each(['least', 'full'])('with the %s values', (values) => {
    test('helm finds nothing to object to', () => {
      expect(helm(['lint', '--strict'], values)).toMatchObject({ status: 0 });
    });

    test(
      'all objects keep to the schemas and have no unknown field',
      { timeout: 60_000 },
      async () => {
        const manifests = render(values);
        expect(await schemaFaults(manifests)).toEqual([]);
        expect(unknownFields(manifests)).toBe('');
      },
    );

    test('the four services take the settings they get', () => {
      const sets = statefulSets(render(values));
      expect(sets.map(componentOf).toSorted()).toEqual([...services].toSorted());
      for (const set of sets) {
        const service = componentOf(set);
        const [container] = set.spec.template.spec.containers;
        const pod = `${set.metadata.name}-0`;
        const config = readConfig(configs[service], environment(container, pod));
        expect(config).toMatchObject({
          INSTANCE: pod,
          PORT: container.ports[0]?.containerPort,
          ANABRANCH_DEFINITION: '/definition/anabranch.yaml',
        });
        expect(config.SHUTDOWN_SECONDS).toBeLessThan(
          set.spec.template.spec.terminationGracePeriodSeconds,
        );
        expect(container.image).toMatch(new RegExp(`anabranch/${service}:[0-9.]+$`));
      }
    });

    test('what settings name is mounted', () => {
      const manifests = render(values);
      for (const { spec } of statefulSets(manifests)) {
        const { containers, volumes } = spec.template.spec;
        const mounts = new Map(
          containers[0].volumeMounts.map(({ name, mountPath }) => [mountPath, name]),
        );
        const secrets = volumes.find(({ name }) => name === mounts.get('/run/secrets/anabranch'));
        const items = secrets?.projected?.sources.flatMap(({ secret }) => secret.items) ?? [];
        for (const { name, value = '' } of containers[0].env) {
          if (name === 'SPOOL_DIRECTORY') {
            expect(mounts.get(value)).toBe('spool');
          } else if (name.endsWith('_FILE')) {
            expect(items.map((item) => `/run/secrets/anabranch/${item.path}`)).toContain(value);
          }
        }
        const definition = volumes.find(({ name }) => name === mounts.get('/definition'));
        const map = manifests.find(
          ({ kind, metadata }) =>
            kind === 'ConfigMap' && metadata.name === definition?.configMap?.name,
        );
        expect(map).toMatchObject({
          data: {
            'anabranch.yaml': readFileSync(`${root}examples/quick-start/anabranch.yaml`, 'utf8'),
            'orders.avsc': readFileSync(`${root}examples/quick-start/orders.avsc`, 'utf8'),
          },
        });
      }
    });

    test('no service may do more than it has to', () => {
      for (const { spec } of statefulSets(render(values))) {
        const pod = spec.template.spec;
        expect(pod.automountServiceAccountToken).toBe(false);
        expect(pod.securityContext).toMatchObject({
          runAsNonRoot: true,
          runAsUser: 1000,
          seccompProfile: { type: 'RuntimeDefault' },
        });
        expect(pod.containers).toHaveLength(1);
        expect(pod.containers[0].securityContext).toEqual({
          allowPrivilegeEscalation: false,
          readOnlyRootFilesystem: true,
          capabilities: { drop: ['ALL'] },
        });
        expect(Object.keys(pod.containers[0].resources.requests)).toEqual(
          expect.arrayContaining(['cpu', 'memory']),
        );
        expect(Object.keys(pod.containers[0].resources.limits)).toContain('memory');
      }
    });

    test('probes, services and budgets belong to the pods', () => {
      const manifests = render(values);
      for (const set of statefulSets(manifests)) {
        const { name, labels } = set.metadata;
        expect(set.spec.serviceName).toBe(name);
        const probes = { liveness: 'live', startup: 'live', readiness: 'ready' };
        for (const [probe, page] of Object.entries(probes)) {
          expect(set.spec.template.spec.containers[0]).toMatchObject({
            [`${probe}Probe`]: { httpGet: { path: `/health/${page}`, port: 'http' } },
          });
        }
        const selector = expect.objectContaining({
          'app.kubernetes.io/component': labels?.['app.kubernetes.io/component'],
        }) as object;
        expect(set.spec.template.metadata).toMatchObject({ labels: selector });
        expect(manifests).toContainEqual(
          expect.objectContaining({
            kind: 'PodDisruptionBudget',
            spec: expect.objectContaining({
              maxUnavailable: 1,
              selector: { matchLabels: selector },
            }) as object,
          }),
        );
        expect(manifests).toContainEqual(
          expect.objectContaining({
            kind: 'Service',
            metadata: expect.objectContaining({ name }) as object,
            spec: expect.objectContaining({ clusterIP: 'None', selector }) as object,
          }),
        );
      }
    });
  });

  test('no secret stands in an object: only where it is', () => {
    const [fusion] = statefulSets(render('full')).filter((set) => componentOf(set) === 'fusion');
    const names = fusion?.spec.template.spec.containers[0].env.map(({ name }) => name) ?? [];
    for (const secret of [
      'DATABASE_URL',
      'DATABASE_PASSWORD',
      'KAFKA_PASSWORD',
      'KAFKA_USERNAME',
    ]) {
      expect(names).toContain(`${secret}_FILE`);
      expect(names).not.toContain(secret);
    }
  });

  test('TLS and logins reach the services, their certificates as files', () => {
    for (const set of statefulSets(render('full'))) {
      const service = componentOf(set);
      const [container] = set.spec.template.spec.containers;
      const config = readConfig(configs[service], environment(container, 'a-0'));
      expect(kafkaConnection(config)).toMatchObject({
        ssl: { rejectUnauthorized: true, ca: certificate },
        sasl: { mechanism: 'scram-sha-512', username: 'anabranch', password: 'secret' },
      });
      if (service === 'fusion') {
        expect(config).toMatchObject({
          DATABASE_SSL: true,
          DATABASE_CA: certificate,
          DATABASE_PASSWORD: 'secret',
        });
      }
    }
  });

  test('KEDA skips verification only where the services do', () => {
    const metadata = (...more: string[]) =>
      render('full', ...more)
        .filter(({ kind }) => kind === 'ScaledObject')
        .map((object) => (object as ScaledObject).spec.triggers[0]?.metadata['unsafeSsl']);
    expect(new Set(metadata())).toEqual(new Set([undefined]));
    expect(new Set(metadata('--set', 'settings.KAFKA_SSL_INSECURE_SKIP_VERIFY=true'))).toEqual(
      new Set(['true']),
    );
  });

  test('a changed definition restarts the services, and nothing else does', () => {
    const checksums = (...more: string[]) =>
      statefulSets(render('least', ...more)).map(
        ({ spec }) => spec.template.metadata.annotations['checksum/definition'],
      );
    expect(new Set(checksums()).size).toBe(1);
    expect(checksums('--set', 'services.ingest.replicas=5')).toEqual(checksums());
    expect(checksums('--set', String.raw`definition.files.new\.avsc=x`)).not.toEqual(checksums());
  });

  test('Prometheus gets the jobs that the rules know, the rules, and Grafana the dashboard', () => {
    const manifests = render('full');
    const kinds = (kind: string) => manifests.filter((manifest) => manifest.kind === kind);
    expect(kinds('ServiceMonitor')).toMatchObject([
      {
        spec: {
          jobLabel: 'app.kubernetes.io/component',
          endpoints: [{ port: 'http', path: '/metrics' }],
        },
      },
    ]);
    const [rules] = parseAllDocuments(
      readFileSync(`${root}docker/prometheus/alerts.yaml`, 'utf8'),
    ).map((document) => document.toJS() as object);
    expect(kinds('PrometheusRule')).toMatchObject([{ spec: rules }]);
    const dashboard = readFileSync(`${root}docker/grafana/dashboards/anabranch.json`, 'utf8');
    expect(kinds('ConfigMap')).toContainEqual(
      expect.objectContaining({ data: { 'anabranch.json': dashboard } }),
    );
    expect(render('least').map(({ apiVersion }) => apiVersion)).not.toContain(
      'monitoring.coreos.com/v1',
    );
  });

  test('KEDA looks at the groups and topics that the services read', () => {
    const manifests = render('full');
    const scaled = manifests.filter(({ kind }) => kind === 'ScaledObject') as ScaledObject[];
    const loops = readFileSync(`${root}libs/service/src/source-loops.ts`, 'utf8');
    expect(loops).toContain('groupId: `anabranch.${this.#service}.${source}`');
    const { stream, results } = internalTopics('quick-start-orders');
    const topics = { ingest: 'quick-start-orders', 'stream-processor': stream, fusion: results };
    expect(scaled.map(componentOf).toSorted()).toEqual(Object.keys(topics).toSorted());
    for (const object of scaled) {
      const service = componentOf(object) as keyof typeof topics;
      expect(object.spec.triggers).toEqual([
        {
          type: 'kafka',
          metadata: expect.objectContaining({
            topic: topics[service],
            consumerGroup: `anabranch.${service}.orders`,
            sasl: 'scram_sha512',
            tls: 'enable',
          }) as object,
          authenticationRef: { name: object.metadata.name },
        },
      ]);
      const start = readFileSync(`${root}apps/${service}/src/start.ts`, 'utf8');
      expect(start).toContain(`SourceLoops.open('${service}', context`);
      // Else Helm and KEDA would set it in turns.
      const set = statefulSets(manifests).find(
        ({ metadata }) => metadata.name === object.spec.scaleTargetRef.name,
      );
      expect(set?.spec).not.toHaveProperty('replicas');
    }
  });

  test('faults are refused by name before anything is deployed', () => {
    expect(refusal('--set', 'settings.KAFKA_BROKER=k:9092')).toContain('KAFKA_BROKER');
    expect(refusal('--set', 'services.ingest.settings.DATABASE_URL=x')).toContain(
      '/services/ingest/settings',
    );
    expect(refusal('--set', 'services.fusion.replica=2')).toContain('replica');
    expect(refusal('--set', 'settings.KAFKA_BROKERS=')).toContain('KAFKA_BROKERS is missing for');
    expect(refusal('--set', 'services.fusion.secretSettings=null')).toContain(
      'DATABASE_URL is missing for fusion',
    );
    expect(refusal('--set', 'services.fusion.settings.DATABASE_URL=x')).toContain(
      'DATABASE_URL stands in both settings and secretSettings',
    );
    expect(helm(['template', 'demo'], 'least', []).stderr).toContain('has no anabranch.yaml');
    const elsewhere = 'definition.existingConfigMap=d,services.ingest.autoscaling.enabled=true';
    expect(helm(['template', 'demo'], 'least', ['--set', elsewhere]).stderr).toContain(
      'keda.topics is empty',
    );
  });
});

function statefulSets(manifests: readonly Manifest[]): StatefulSet[] {
  return manifests.filter(({ kind }) => kind === 'StatefulSet') as StatefulSet[];
}

function componentOf({ metadata }: Manifest): keyof typeof configs {
  return metadata.labels?.['app.kubernetes.io/component'] as keyof typeof configs;
}

/** What a container's process finds, with a stand-in for each secret. */
function environment({ env }: Container, pod: string): Record<string, string> {
  const secrets: Readonly<Record<string, string>> = {
    DATABASE_URL: 'postgres://anabranch@postgres/anabranch',
    KAFKA_CA: certificate,
    DATABASE_CA: certificate,
    DATABASE_PASSWORD: 'secret',
    KAFKA_USERNAME: 'anabranch',
    KAFKA_PASSWORD: 'secret',
  };
  return Object.fromEntries(
    env.map(({ name, value }) => {
      if (!name.endsWith('_FILE')) {
        return [name, value ?? pod];
      }
      const file = path.join(temporary, name);
      writeFileSync(file, secrets[name.slice(0, -'_FILE'.length)] ?? '');
      return [name, file];
    }),
  );
}
