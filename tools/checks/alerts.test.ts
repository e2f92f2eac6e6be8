import { spawnSync } from 'node:child_process';
import { readFileSync } from 'node:fs';
import { fileURLToPath } from 'node:url';
import { describe, expect, test } from 'vitest';
import { parse } from 'yaml';
import { knownMetrics, services } from './known-metrics.ts';
import { checkQuery } from './promql.ts';

interface Rule {
  readonly alert: string;
  readonly expr: string;
  readonly for?: string;
  readonly labels: Readonly<Record<string, string>>;
  readonly annotations: Readonly<Record<string, string>>;
}

interface RuleFile {
  readonly groups: readonly { readonly name: string; readonly rules: readonly Rule[] }[];
}

interface PrometheusConfig {
  readonly rule_files: readonly string[];
  readonly scrape_configs: readonly { readonly job_name: string }[];
}

const root = new URL('../../', import.meta.url);

function read(file: string): string {
  return readFileSync(new URL(file, root), 'utf8');
}

const known = knownMetrics();
const alerts = parse(read('docker/prometheus/alerts.yaml')) as RuleFile;
const rules = alerts.groups.flatMap((group) => group.rules);

describe.each(rules)('$alert', ({ alert, expr, labels, annotations }) => {
  const { faults, labels: found } = checkQuery(expr, known);

  test('asks for metrics and labels that exist', () => {
    expect(faults).toEqual([]);
  });

  test('tells only of labels that its samples have', () => {
    const told = Object.values(annotations).flatMap((text) => [
      ...text.matchAll(/\$labels\.(\w+)/g),
    ]);
    for (const [, label = ''] of told) {
      expect([...found]).toContain(label);
    }
  });

  test('says how bad it is, and what to do in docs/operations.md', () => {
    expect(['critical', 'warning', 'info']).toContain(labels['severity']);
    expect(Object.keys(annotations).toSorted()).toEqual(['description', 'runbook', 'summary']);
    expect(annotations['runbook']).toBe(`docs/operations.md#${alert.toLowerCase()}`);
    const section = read('docs/operations.md').split(`\n### ${alert}\n`)[1]?.split('\n#')[0];
    expect(section?.trim().length).toBeGreaterThan(50);
  });
});

test('each alert has a name of its own, and operations.md explains no other', () => {
  const names = rules.map(({ alert }) => alert);
  expect(new Set(names).size).toBe(names.length);
  const explained = [...read('docs/operations.md').matchAll(/^### (Anabranch\w+)$/gm)];
  expect(explained.map(([, name]) => name)).toEqual(names);
});

test('Prometheus scrapes each service under its name and loads the rules', () => {
  const { scrape_configs: jobs, rule_files: files } = parse(
    read('docker/prometheus/prometheus.yaml'),
  ) as PrometheusConfig;
  expect(jobs.map((job) => job.job_name)).toEqual(services);
  expect(files).toEqual(['alerts.yaml']);
});

// Prometheus' own tool comes in no package of ours: Debian's prometheus and the image have it.
const hasPromtool = spawnSync('promtool', ['--version']).status === 0;
const checks = [
  ['check', 'config', 'prometheus.yaml'],
  ['test', 'rules', 'alerts.test.yaml'],
];
if (!hasPromtool) {
  console.log('docker/prometheus/alerts.test.yaml was not run: there is no promtool on the PATH.');
}

test.each(hasPromtool ? checks : [])('promtool %s %s %s', (...args) => {
  const cwd = fileURLToPath(new URL('docker/prometheus', root));
  expect(spawnSync('promtool', args, { cwd, encoding: 'utf8' })).toMatchObject({ status: 0 });
});
