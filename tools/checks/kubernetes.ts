import { execFileSync } from 'node:child_process';
import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import path from 'node:path';
import { fileURLToPath } from 'node:url';
import type { Model, TypeMeta } from '@kubernetes-models/base';

/** An object as Kubernetes takes it. */
export interface Manifest extends TypeMeta {
  readonly metadata: {
    readonly name: string;
    readonly labels?: Readonly<Record<string, string>>;
  };
}

const tsc = fileURLToPath(new URL('../../node_modules/.bin/tsc', import.meta.url));

type Models = Readonly<Record<string, new (data: object) => Model<TypeMeta>>>;

/** The module that has the model and type of an object, such as kubernetes-models/apps/v1/StatefulSet. */
function moduleOf({ apiVersion, kind }: TypeMeta): string {
  const [group = '', version] = apiVersion.includes('/') ? apiVersion.split('/') : ['', apiVersion];
  const packages: Readonly<Record<string, string>> = {
    'monitoring.coreos.com': '@kubernetes-models/prometheus-operator/',
    'keda.sh': '@kubernetes-models/keda/',
  };
  const folder = group === '' ? '' : `${group}/`;
  return `${packages[group] ?? 'kubernetes-models/'}${folder}${version}/${kind}`;
}

/** What the schemas of Kubernetes, KEDA and the Prometheus operator have against the objects' values. */
export async function schemaFaults(manifests: readonly Manifest[]): Promise<string[]> {
  const faults: string[] = [];
  for (const manifest of manifests) {
    const { kind } = manifest;
    const models = (await import(/* @vite-ignore */ moduleOf(manifest))) as Models;
    const Kind = models[kind];
    if (Kind === undefined) {
      faults.push(`${moduleOf(manifest)} has no ${kind}`);
      continue;
    }
    try {
      new Kind(manifest).validate();
    } catch (error) {
      faults.push(`${kind} ${manifest.metadata.name}: ${(error as Error).message}`);
    }
  }
  return faults;
}

/**
 * Fields that don't exist, which those schemas let pass and the API server refuses: as literals of their
 * types, objects may have none. One run of TypeScript for all.
 * @returns TypeScript's messages; empty: all is well
 */
export function unknownFields(manifests: readonly Manifest[]): string {
  const here = fileURLToPath(new URL('.', import.meta.url));
  mkdirSync(path.join(here, 'node_modules'), { recursive: true });
  // Inside, so that the packages are found from there.
  const folder = mkdtempSync(path.join(here, 'node_modules', '.rendered-'));
  try {
    const lines = manifests.map(
      (manifest, index) =>
        `import type { I${manifest.kind} as T${index} } from '${moduleOf(manifest)}';
export const object${index}: T${index} = ${JSON.stringify(manifest, null, 1)};`,
    );
    writeFileSync(path.join(folder, 'objects.ts'), lines.join('\n'));
    writeFileSync(
      path.join(folder, 'tsconfig.json'),
      JSON.stringify({
        compilerOptions: {
          strict: true,
          noEmit: true,
          module: 'nodenext',
          types: [],
          skipLibCheck: true,
        },
        files: ['objects.ts'],
      }),
    );
    execFileSync(tsc, ['--project', folder, '--pretty', 'false'], { encoding: 'utf8' });
    return '';
  } catch (error) {
    return (error as { stdout?: string }).stdout || String(error);
  } finally {
    rmSync(folder, { recursive: true, force: true });
  }
}
