import { format, resolveConfig } from 'prettier';
// Not the library's barrel: its Nest decorators keep plain Node from loading it.
import { type MetricRow, metricTable } from '../../libs/service/src/metrics.ts';

export const metricsReferenceFile = new URL('../../docs/metrics.md', import.meta.url);

/** What docs/metrics.md should say, formatted as `npm run format` leaves it. */
export async function metricsReference(): Promise<string> {
  const rows: MetricRow[] = Object.values(metricTable);
  const text = `# Metrics

<!-- Written by tools/write-metrics-reference.ts from libs/service/src/metrics.ts. -->

Every service has all of these at \`/metrics\`, in Prometheus' text format; a metric that a service doesn't touch has no samples
there, or stays 0. Labels have values from the definition, the number of partitions and fixed lists, never from records. [operations.md](operations.md#alerts) says
which of them raise an alarm, \`docker/prometheus/\` has the rules, \`docker/grafana/\` a dashboard.

| metric | kind | |
| --- | --- | --- |
${rows.map(({ name, kind, help }) => `| [\`${name}\`](#${name}) | ${kind} | ${cell(help)} |`).join('\n')}

${rows.map(section).join('\n')}`;
  const options = await resolveConfig(metricsReferenceFile);
  return format(text, { ...options, parser: 'markdown' });
}

function section({ name, kind, help, labels, optional = [], buckets }: MetricRow): string {
  const names = Object.entries(labels);
  const labelTable =
    names.length === 0
      ? 'No labels.'
      : `| label | values |\n| --- | --- |\n${names
          .map(
            ([label, values]) =>
              `| \`${label}\` | ${describe(values)}${optional.includes(label) ? '; may be missing' : ''} |`,
          )
          .join('\n')}`;
  const bounds = buckets ? `\nBuckets up to ${buckets.join(', ')} and more.\n` : '';
  return `## ${name}

${kind[0]?.toUpperCase()}${kind.slice(1)}. ${help}
${bounds}
${labelTable}
`;
}

function describe(values: string | readonly string[]): string {
  return typeof values === 'string'
    ? cell(values)
    : values.map((value) => `\`${value}\``).join(', ');
}

function cell(text: string): string {
  return text.replaceAll('|', String.raw`\|`);
}
