import { readFileSync } from 'node:fs';
import { describe, expect, test } from 'vitest';
import { knownMetrics } from './known-metrics.ts';
import { checkQuery } from './promql.ts';

interface Target {
  readonly refId: string;
  readonly expr: string;
  readonly legendFormat: string;
  readonly datasource: { readonly uid: string };
}

interface Panel {
  readonly id: number;
  readonly type: string;
  readonly title: string;
  readonly description?: string;
  readonly gridPos: Readonly<Record<'x' | 'y' | 'w' | 'h', number>>;
  readonly targets?: readonly Target[];
}

interface Variable {
  readonly name: string;
  readonly definition?: string;
}

interface Dashboard {
  readonly panels: readonly Panel[];
  readonly templating: { readonly list: readonly Variable[] };
}

const file = new URL('../../docker/grafana/dashboards/anabranch.json', import.meta.url);
const { panels, templating } = JSON.parse(readFileSync(file, 'utf8')) as Dashboard;
const known = knownMetrics();
const queries = panels.flatMap(({ title, targets = [] }) =>
  targets.map((target) => ({ title: `${title} ${target.refId}`, ...target })),
);

describe.each(queries)('$title', ({ expr, legendFormat, datasource }) => {
  // Durations that Grafana puts in.
  const checked = checkQuery(expr.replaceAll(/\$__(?:rate_interval|range)/g, '5m'), known);

  test('asks for metrics and labels that exist', () => {
    expect(checked.faults).toEqual([]);
    expect(datasource.uid).toBe('${datasource}');
  });

  test('names its lines by labels that they have, and by all of them', () => {
    const named = [...legendFormat.matchAll(/\{\{(\w+)\}\}/g)].map(([, label]) => label ?? '');
    expect([...checked.labels]).toEqual(expect.arrayContaining(named));
    if (/^(?:sum|count|max|min|histogram_quantile)\b/.test(expr)) {
      expect(named.toSorted()).toEqual([...checked.labels].toSorted());
    }
  });

  test('uses variables that the dashboard has', () => {
    const names = templating.list.map(({ name }) => name);
    const used = [...expr.matchAll(/\$(?!__)(\w+)/g)].map(([, name]) => name);
    expect(names).toEqual(expect.arrayContaining(used));
  });
});

test('variables offer values of labels that exist', () => {
  const definitions = templating.list.flatMap(({ definition }) => definition ?? []);
  expect(definitions.length).toBeGreaterThan(0);
  for (const definition of definitions) {
    const [, metric = '', label = ''] = /^label_values\((\w+), (\w+)\)$/.exec(definition) ?? [];
    expect([...(known.get(metric)?.labels.keys() ?? [])]).toContain(label);
  }
});

test('panels are explained, have an id of their own and lie side by side', () => {
  const cells = new Set<string>();
  for (const { id, type, title, description, gridPos } of panels) {
    expect(panels.filter((other) => other.id === id)).toHaveLength(1);
    expect({ title, explained: type === 'row' || Boolean(description) }).toEqual({
      title,
      explained: true,
    });
    const { x, y, w, h } = gridPos;
    expect(x + w).toBeLessThanOrEqual(24);
    for (let column = x; column < x + w; column++) {
      for (let line = y; line < y + h; line++) {
        expect(cells).not.toContain(`${column},${line}`);
        cells.add(`${column},${line}`);
      }
    }
  }
});
