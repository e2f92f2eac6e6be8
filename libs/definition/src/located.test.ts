import fc from 'fast-check';
import { expect, it } from 'vitest';
import type { Problem } from './errors.ts';
import { type Located, offsetWithin, readLocated } from './located.ts';
import { SourceText } from './source-text.ts';

function read(text: string): { source: SourceText; root: Located } {
  const source = new SourceText('file', text);
  const problems: Problem[] = [];
  const root = readLocated(source, problems);
  expect(problems).toEqual([]);
  if (!root) {
    throw new Error('nothing read');
  }
  return { source, root };
}

// Schemas are JSON, and it is this reader, not JSON.parse, that knows where a value stands.
it('reads JSON as JSON.parse does', () => {
  const text = fc
    .string({ unit: 'grapheme' })
    .filter((key) => key !== '__proto__' && key.isWellFormed() && !key.includes('\0'));
  const { value } = fc.letrec<{ value: unknown }>((tie) => ({
    value: fc.oneof(
      { depthSize: 'small' },
      fc.oneof(
        fc.constantFrom(null, true, false),
        fc.integer(),
        fc.double({ noNaN: true, noDefaultInfinity: true }),
        text,
      ),
      fc.array(tie('value'), { maxLength: 4 }),
      fc.dictionary(text, tie('value'), { maxKeys: 4, noNullPrototype: true }),
    ),
  }));
  fc.assert(
    fc.property(value, fc.constantFrom(0, 2, '\t'), (json, indent) => {
      const written = JSON.stringify(json, null, indent);
      expect(JSON.stringify(read(written).root.value)).toBe(JSON.stringify(JSON.parse(written)));
    }),
    { numRuns: 1000 },
  );
});

it.each([
  ['plain', 'a: sum(b + c)'],
  ['plain over lines', 'a: sum(b\n   +\n   c)'],
  ['in single quotes', "a: 'sum(''b'' + c)'"],
  ['in double quotes', 'a: "sum(\\"b\\" + c)"'],
  ['literal', 'a: |\n\n   sum(b +\n     c)\n'],
  ['folded', 'a: >-\n   sum(b\n   + c)\n'],
])('knows where each character of a text stands that is written %s', (_style, text) => {
  const { source, root } = read(text);
  const at = root.children.get('a');
  const value = String(at?.value);
  for (let index = 0; index < value.length; index += 1) {
    const character = value.charAt(index);
    if (at && character.trim() !== '') {
      expect(text.charAt(offsetWithin(source, at, index))).toBe(character);
    }
  }
  expect(at && offsetWithin(source, at, value.indexOf('c'))).toBe(text.lastIndexOf('c'));
});

it('stays at the last place it knows behind an escape', () => {
  const text = 'a: "b\\x41c"';
  const { source, root } = read(text);
  const at = root.children.get('a');
  expect(at && offsetWithin(source, at, 2)).toBe(text.indexOf('\\'));
});
