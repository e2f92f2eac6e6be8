import { readFileSync } from 'node:fs';
import { fileURLToPath } from 'node:url';

interface Manifest {
  name: string;
  dependencies?: Record<string, string>;
  devDependencies?: Record<string, string>;
}

interface RuleContext {
  filename: string;
  report(problem: { node: object; message: string }): void;
}

interface Import {
  source: { value: string } | null;
}

const root = fileURLToPath(new URL('..', import.meta.url));

/**
 * A project may import only those of our packages that its package.json declares: Nx reads the
 * project graph from there, so its cache would not notice a change in an undeclared one.
 */
const declaredImports = {
  create(context: RuleContext) {
    const folder = /^(?:apps|libs)\/[^/]+/.exec(context.filename.slice(root.length))?.[0];
    if (folder === undefined) {
      return {};
    }
    const manifest = JSON.parse(readFileSync(`${root}${folder}/package.json`, 'utf8')) as Manifest;
    const declared = { ...manifest.dependencies, ...manifest.devDependencies };
    const check = ({ source }: Import): void => {
      const wanted = source && /^@anabranch\/[^/]+/.exec(source.value)?.[0];
      if (wanted && declared[wanted] === undefined) {
        context.report({
          node: source,
          message: `${wanted} is not among the dependencies of ${manifest.name}.`,
        });
      }
    };
    return { ImportDeclaration: check, ExportNamedDeclaration: check, ExportAllDeclaration: check };
  },
};

export default { meta: { name: 'workspace' }, rules: { 'declared-imports': declaredImports } };
