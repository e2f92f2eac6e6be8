/** A number as it is written. */
export class NumberText {
  readonly text: string;

  constructor(text: string) {
    this.text = text;
  }
}

export type Json = NumberText | string | boolean | null | Json[] | Map<string, Json>;

/**
 * Reads JSON as README says that records are read: of a field that occurs twice the first one counts,
 * a comma too much at the end of a list or object is forgiven, and NaN and Infinity are numbers (that
 * no field takes). Written for the tests from RFC 8259, by recursion on no stack but its own, so it
 * shares neither code nor parser with what it judges.
 *
 * @returns undefined for what isn't JSON
 */
export function readJson(
  text: string,
): { readonly value: Json; readonly depth: number; readonly repeated: boolean } | undefined {
  const reader = new Reader(text);
  try {
    return { value: reader.document(), depth: reader.depth, repeated: reader.repeated };
  } catch (error) {
    if (error === malformed) {
      return undefined;
    }
    throw error;
  }
}

const malformed = new Error('not JSON');

const number = /-?(?:(?:0|[1-9]\d*)(?:\.\d+)?(?:e[+-]?\d+)?|nan\b|infinity\b|inf\b)/iy;
/** A string without its opening quote. */
// oxlint-disable-next-line no-control-regex
const plainText = /[^"\\\u0000-\u001f]*/y;
const space = /[ \t\n\r]*/y;
const escapes: Readonly<Record<string, string>> = {
  '"': '"',
  '\\': '\\',
  '/': '/',
  b: '\b',
  f: '\f',
  n: '\n',
  r: '\r',
  t: '\t',
};

class Reader {
  /** Of what is nested most deeply. */
  depth = 0;
  /** Whether a key occurs twice in an object. */
  repeated = false;
  readonly #text: string;
  #at = 0;

  constructor(text: string) {
    this.#text = text;
  }

  document(): Json {
    const open: { readonly into: Json[] | Map<string, Json>; key: string }[] = [];
    for (;;) {
      this.#take(space);
      let value = this.#value();
      let opened = value instanceof Map || Array.isArray(value);
      // What is complete now goes into what is around it, which may be complete with it.
      for (;;) {
        if (opened) {
          this.#take(space);
          const into = value as Json[] | Map<string, Json>;
          if (this.#skip(into instanceof Map ? '}' : ']')) {
            opened = false;
            continue;
          }
          open.push({ into, key: into instanceof Map ? this.#key() : '' });
          this.depth = Math.max(this.depth, open.length);
          break;
        }
        const around = open.at(-1);
        this.#take(space);
        if (around === undefined) {
          if (this.#at < this.#text.length) {
            throw malformed;
          }
          return value;
        }
        const { into, key } = around;
        if (Array.isArray(into)) {
          into.push(value);
        } else if (into.has(key)) {
          this.repeated = true;
        } else {
          into.set(key, value);
        }
        const closer = into instanceof Map ? '}' : ']';
        const comma = this.#skip(',');
        this.#take(space);
        if (this.#skip(closer)) {
          open.pop();
          value = into;
          continue;
        }
        if (!comma) {
          throw malformed;
        }
        if (into instanceof Map) {
          around.key = this.#key();
        }
        break;
      }
    }
  }

  /** A scalar, or the empty beginning of a list or object. */
  #value(): Json {
    const next = this.#text[this.#at];
    if (next === '{' || next === '[') {
      this.#at++;
      return next === '{' ? new Map() : [];
    }
    if (next === '"') {
      this.#at++;
      return this.#string();
    }
    for (const [word, value] of [
      ['true', true],
      ['false', false],
      ['null', null],
    ] as const) {
      if (this.#skip(word)) {
        return value;
      }
    }
    return new NumberText(this.#take(number));
  }

  #key(): string {
    this.#take(space);
    if (!this.#skip('"')) {
      throw malformed;
    }
    const key = this.#string();
    this.#take(space);
    if (!this.#skip(':')) {
      throw malformed;
    }
    return key;
  }

  #string(): string {
    const parts: string[] = [];
    for (;;) {
      parts.push(this.#take(plainText));
      const next = this.#text[this.#at++];
      if (next === '"') {
        const text = parts.join('');
        if (!text.isWellFormed()) {
          throw malformed;
        }
        return text;
      }
      if (next !== '\\') {
        throw malformed;
      }
      const escape = this.#text[this.#at++] ?? '';
      if (escape === 'u') {
        const hex = this.#text.slice(this.#at, this.#at + 4);
        if (!/^[0-9a-f]{4}$/i.test(hex)) {
          throw malformed;
        }
        this.#at += 4;
        parts.push(String.fromCharCode(Number.parseInt(hex, 16)));
      } else {
        const meant = escapes[escape];
        if (meant === undefined) {
          throw malformed;
        }
        parts.push(meant);
      }
    }
  }

  #skip(token: string): boolean {
    const found = this.#text.startsWith(token, this.#at);
    this.#at += found ? token.length : 0;
    return found;
  }

  #take(pattern: RegExp): string {
    pattern.lastIndex = this.#at;
    const found = pattern.exec(this.#text)?.[0];
    if (found === undefined) {
      throw malformed;
    }
    this.#at += found.length;
    return found;
  }
}
