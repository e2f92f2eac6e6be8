const milliseconds = { ms: 1, s: 1000, m: 60_000, h: 3_600_000, d: 86_400_000 } as const;
const bytes = { B: 1, KiB: 1024, MiB: 1024 ** 2, GiB: 1024 ** 3, TiB: 1024 ** 4 } as const;

export const durationPattern = /^(\d{1,12}(?:\.\d{1,6})?) ?(ms|s|m|h|d)$/;
export const sizePattern = /^(\d{1,12}(?:\.\d{1,6})?) ?(B|KiB|MiB|GiB|TiB)$/;

/** Milliseconds of `500ms`, `5s`, `1.5m`, `2h` or `1d`; null: not a duration of whole milliseconds. */
export function parseDuration(text: string): number | null {
  const match = durationPattern.exec(text);
  return match && whole(Number(match[1]) * milliseconds[match[2] as keyof typeof milliseconds]);
}

/** Bytes of `512B`, `64KiB`, `1MiB`…; null: not a size of whole bytes. */
export function parseSize(text: string): number | null {
  const match = sizePattern.exec(text);
  return match && whole(Number(match[1]) * bytes[match[2] as keyof typeof bytes]);
}

function whole(value: number): number | null {
  // 1.1s is 1100.0000000000002 in binary.
  const rounded = Math.round(value);
  return Math.abs(rounded - value) < 1e-6 && Number.isSafeInteger(rounded) ? rounded : null;
}

/** The shortest way to write it: 90000 is `90s`. */
export function formatDuration(value: number): string {
  return format(value, milliseconds, 'ms');
}

export function formatSize(value: number): string {
  return format(value, bytes, 'B');
}

function format(value: number, units: Readonly<Record<string, number>>, smallest: string): string {
  let text = `${String(value)}${smallest}`;
  for (const [unit, factor] of Object.entries(units)) {
    if (value > 0 && value % factor === 0) {
      text = `${String(value / factor)}${unit}`;
    }
  }
  return text;
}

const durationWords: readonly [RegExp, string][] = [
  [/^(ms|msecs?|millis|milliseconds?)$/i, 'ms'],
  [/^(s|secs?|seconds?)$/i, 's'],
  [/^(m|mins?|minutes?)$/i, 'm'],
  [/^(h|hrs?|hours?)$/i, 'h'],
  [/^(d|days?)$/i, 'd'],
];

/** What the user probably meant by `10 seconds`. */
export function durationMeant(text: string): string | undefined {
  return meant(text, durationWords, '10s');
}

const sizeWords: readonly [RegExp, string][] = [
  [/^(b|bytes?)$/i, 'B'],
  [/^(k|kb|kib)$/i, 'KiB'],
  [/^(m|mb|mib)$/i, 'MiB'],
  [/^(g|gb|gib)$/i, 'GiB'],
  [/^(t|tb|tib)$/i, 'TiB'],
];

export function sizeMeant(text: string): string | undefined {
  return meant(text, sizeWords, '1MiB');
}

function meant(
  text: string,
  words: readonly [RegExp, string][],
  example: string,
): string | undefined {
  const match = /^(\d{1,12}(?:\.\d{1,6})?)\s*([a-z]{0,12})$/i.exec(text.trim());
  if (!match) {
    return undefined;
  }
  const [, number, word] = match;
  if (word === '') {
    return `a unit is missing, as in "${example}"`;
  }
  const unit = words.find(([pattern]) => pattern.test(word ?? ''))?.[1];
  return unit === undefined ? undefined : `did you mean "${number ?? ''}${unit}"?`;
}
