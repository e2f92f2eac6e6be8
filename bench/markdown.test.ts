import { expect, it } from 'vitest';
import { markdown, replaceFigures } from './markdown.ts';

it('puts numbers to the right and words to the left', () => {
  expect(
    markdown(
      ['what', 'n'],
      [
        ['a', '1,000'],
        ['bc', '–'],
      ],
    ),
  ).toBe(
    ['| what |     n |', '| ---- | ----: |', '| a    | 1,000 |', '| bc   |     – |'].join('\n'),
  );
});

const readme = [
  'before',
  '<!-- figures of peers begin -->',
  'old',
  '<!-- figures of peers end -->',
  'between',
  '<!-- figures of growth begin -->',
  'old',
  '<!-- figures of growth end -->',
  'after',
].join('\n');

it('replaces the figures of one section, and nothing else', () => {
  const replaced = replaceFigures(readme, 'peers', 'new: $& $1');
  expect(replaced).toBe(readme.replace('old', () => '\nnew: $& $1'));
  expect(replaceFigures(replaced, 'peers', 'new: $& $1')).toBe(replaced);
});

it('says which mark is missing instead of writing elsewhere', () => {
  expect(() => replaceFigures(readme, 'latency', 'new')).toThrow('figures of latency begin');
});
