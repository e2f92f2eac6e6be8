import { z } from 'zod';
import type { Problem } from './errors.ts';
import { type Located, locate } from './located.ts';
import { durationMeant, durationPattern, sizeMeant, sizePattern } from './quantity.ts';
import { identifierPattern } from './shape.ts';
import { describe, quote, type SourceText } from './source-text.ts';
import { didYouMean } from './suggestion.ts';

type Issue = z.core.$ZodIssue;

/** What zod found, said in the words of the file, each at its place. */
export function shapeProblems(
  shape: z.ZodType,
  issues: readonly Issue[],
  root: Located,
  source: SourceText,
): Problem[] {
  return issues.flatMap((issue) => new Reporter(shape, root, source).problems(issue, []));
}

class Reporter {
  readonly #shape: z.ZodType;
  readonly #root: Located;
  readonly #source: SourceText;

  constructor(shape: z.ZodType, root: Located, source: SourceText) {
    this.#shape = shape;
    this.#root = root;
    this.#source = source;
  }

  problems(issue: Issue, base: readonly PropertyKey[]): Problem[] {
    const path = [...base, ...issue.path];
    const here = locate(this.#root, path);
    switch (issue.code) {
      case 'unrecognized_keys':
        return issue.keys.map((key) => this.#unknownKey(key, path));
      case 'invalid_key':
        return [this.#invalidKey(path)];
      case 'invalid_union': {
        const branch = matchingBranch(issue.errors);
        return branch
          ? branch.flatMap((inner) => this.problems(inner, path))
          : [this.#wrongValue(path, expectedOfUnion(issue.errors))];
      }
      case 'invalid_type':
        return [this.#wrongValue(path, typeNames[issue.expected] ?? issue.expected)];
      case 'invalid_value':
        return [this.#wrongChoice(path, issue.values.map(String))];
      case 'invalid_format':
        return [this.#wrongFormat(here, 'pattern' in issue ? (issue.pattern ?? '') : '')];
      case 'too_small':
        return [this.#source.problem(here.span, 'must not be empty')];
      // None of these is in the shape.
      case 'custom':
      case 'invalid_element':
      case 'not_multiple_of':
      case 'too_big':
        return [this.#source.problem(here.span, issue.message)];
    }
  }

  #unknownKey(key: string, path: readonly PropertyKey[]): Problem {
    const known = keysAt(this.#shape, path);
    const span = locate(this.#root, [...path, key]).keySpan ?? [0, 0];
    const hint = didYouMean(key, known) ?? `known here: ${known.join(', ')}`;
    return this.#source.problem(span, `unknown key ${quote(key)}`, hint);
  }

  #invalidKey(path: readonly PropertyKey[]): Problem {
    const here = locate(this.#root, path);
    const name = String(path.at(-1));
    const [message, hint] = badIdentifier(name);
    return this.#source.problem(here.keySpan ?? here.span, message, hint);
  }

  #wrongValue(path: readonly PropertyKey[], expected: string): Problem {
    const parent = locate(this.#root, path.slice(0, -1));
    const name = path.at(-1);
    const here = name === undefined ? this.#root : parent.children.get(name as string | number);
    if (!here) {
      return this.#source.problem(
        parent.keySpan ?? parent.span,
        `${quote(String(name))} is missing`,
      );
    }
    const span = here.span[0] === here.span[1] && here.keySpan ? here.keySpan : here.span;
    const scalar = typeof here.value === 'number' || typeof here.value === 'boolean';
    const found = describe(here.value);
    if (expected === 'text' && scalar) {
      const hint = examplesAt(this.#shape, path) ?? 'put it in quotes';
      return this.#source.problem(span, `expected text, found ${found}`, hint);
    }
    const text = this.#source.text.slice(...here.span);
    const hint =
      expected === 'a list' && typeof here.value === 'string' && /^[\w, ]{1,60}$/.test(text)
        ? `did you mean [${text}]?`
        : undefined;
    return this.#source.problem(span, `expected ${expected}, found ${found}`, hint);
  }

  #wrongChoice(path: readonly PropertyKey[], choices: readonly string[]): Problem {
    const here = locate(this.#root, path);
    if (typeof here.value !== 'string' || here.children.size > 0) {
      return this.#wrongValue(path, choices.map(quote).join(' or '));
    }
    const list = choices.join(', ');
    return this.#source.problem(
      here.span,
      `${quote(here.value)} isn't possible here`,
      didYouMean(here.value, choices) ?? `possible: ${list}`,
    );
  }

  #wrongFormat(here: Located, pattern: string): Problem {
    const text = String(here.value);
    if (pattern === String(durationPattern)) {
      const hint = durationMeant(text) ?? 'write it like 500ms, 5s, 10m, 2h or 1d';
      return this.#source.problem(here.span, `${quote(text)} isn't a duration`, hint);
    }
    if (pattern === String(sizePattern)) {
      const hint = sizeMeant(text) ?? 'write it like 512B, 64KiB or 1MiB';
      return this.#source.problem(here.span, `${quote(text)} isn't a size`, hint);
    }
    const [message, hint] = badIdentifier(text);
    return this.#source.problem(here.span, message, hint);
  }
}

const typeNames: Readonly<Record<string, string>> = {
  string: 'text',
  array: 'a list',
  object: 'a map (key: value)',
  record: 'a map (key: value)',
};

/** The way of a union that the value took: the one that doesn't fail at the value itself. */
function matchingBranch(branches: readonly (readonly Issue[])[]): readonly Issue[] | undefined {
  return branches.find((issues) =>
    issues.every(
      ({ path, code }) =>
        path.length > 0 ||
        (code !== 'invalid_type' && code !== 'invalid_value' && code !== 'invalid_union'),
    ),
  );
}

function expectedOfUnion(branches: readonly (readonly Issue[])[]): string {
  const expected = branches
    .flat()
    .map((issue) => (issue.code === 'invalid_type' ? issue.expected : issue.code));
  if (expected.includes('array')) {
    return 'a map (name: expression) or a list of field names';
  }
  return expected.includes('invalid_value') ? 'text' : 'an SQL expression';
}

/** The keys that the shape has at a path. */
function keysAt(shape: z.ZodType, path: readonly PropertyKey[]): string[] {
  const here = shapeAt(shape, path);
  return here instanceof z.ZodObject ? Object.keys(here.shape) : [];
}

/** How to write a quantity, if one is wanted at a path. */
function examplesAt(shape: z.ZodType, path: readonly PropertyKey[]): string | undefined {
  const here = shapeAt(shape, path);
  const meta = here instanceof z.ZodType ? here.meta() : undefined;
  return meta?.title === 'duration' || meta?.title === 'size'
    ? `a ${meta.title} has a unit: ${(meta['examples'] as string[]).join(', ')}`
    : undefined;
}

function shapeAt(shape: z.ZodType, path: readonly PropertyKey[]): z.core.$ZodType {
  let here: z.core.$ZodType = shape;
  for (const step of path) {
    here = unwrap(here);
    if (here instanceof z.ZodObject) {
      here = (here.shape as Record<PropertyKey, z.ZodType>)[step] ?? here;
    } else if (here instanceof z.ZodRecord) {
      here = here.valueType;
    } else if (here instanceof z.ZodArray) {
      here = here.element;
    }
  }
  return unwrap(here);
}

function unwrap(shape: z.core.$ZodType): z.core.$ZodType {
  return shape instanceof z.ZodOptional ? unwrap(shape.unwrap()) : shape;
}

/** Why a text can't be a name, and what to write instead. */
export function badIdentifier(name: string): [message: string, hint: string] {
  const rule = 'lower-case letters, digits and _, a letter first, at most 48';
  const other = name
    .replaceAll(/([a-z0-9])([A-Z])/g, '$1_$2')
    .toLowerCase()
    .replaceAll(/[^a-z0-9_]+/g, '_')
    .replaceAll(/^[_0-9]+|_+$/g, '')
    .slice(0, 48);
  return [
    `${quote(name)} can't be a name`,
    identifierPattern.test(other) ? `such as "${other}": ${rule}` : rule,
  ];
}
