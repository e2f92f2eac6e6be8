const maxText = 4_000;
const maxItems = 50;
const maxDepth = 6;

/**
 * The fields of an error that name things. Others stay out: Postgres' `detail`, for one, quotes the
 * values of the row that it refused.
 */
const identifying = [
  'code',
  'exitCode',
  'type',
  'source',
  'topic',
  'partition',
  'offset',
  'from',
  'to',
  'branch',
  'table',
  'constraint',
  'file',
  'line',
  'column',
  'path',
  'syscall',
  'address',
  'port',
] as const;

const secretName = /password|passwd|secret|token|credential/i;
const userInfo = /([a-z][a-z0-9+.-]*:\/\/)[^\s/?#]*@/gi;

/** Hides the user and password of every URL in a text. */
export function hideCredentials(text: string): string {
  return text.includes('@') ? text.replace(userInfo, '$1***@') : text;
}

/** What an error says, in one text, also where Node leaves the message empty. */
export function messageOf(error: unknown): string {
  if (!(error instanceof Error)) {
    const shown = printable(error);
    return typeof shown === 'string' ? shown : (JSON.stringify(shown) ?? String(shown));
  }
  if (error.message !== '') {
    return printableText(error.message);
  }
  // A refused connection to a name with several addresses is an AggregateError without a message.
  if (error instanceof AggregateError && error.errors.length > 0) {
    return [...new Set(error.errors.map(messageOf))].join('; ');
  }
  return 'code' in error ? String(error.code) : error.name;
}

/**
 * A value as JSON can hold it and a log or health page may show it: bytes only by their number, long
 * texts cut, secrets masked by their field's name, deep or cyclic values ended, errors with their
 * code, identifying fields, stack and causes. Bigints become numbers where these hold them.
 */
export function printable(value: unknown): unknown {
  return print(value, 0);
}

function printableText(text: string): string {
  const cut =
    text.length > maxText
      ? `${text.slice(0, maxText)}… (${text.length - maxText} more characters)`
      : text;
  return hideCredentials(cut);
}

function print(value: unknown, depth: number): unknown {
  if (typeof value === 'string') {
    return printableText(value);
  }
  if (typeof value === 'bigint') {
    return Number.isSafeInteger(Number(value)) ? Number(value) : value.toString();
  }
  if (typeof value === 'number') {
    return Number.isFinite(value) ? value : String(value);
  }
  if (typeof value === 'object' && value !== null) {
    return printObject(value, depth);
  }
  return typeof value === 'boolean' || value === null ? value : undefined;
}

function printObject(value: object, depth: number): unknown {
  if (value instanceof Error) {
    return printError(value, depth);
  }
  if (value instanceof Date) {
    return Number.isNaN(value.getTime()) ? 'invalid date' : value.toISOString();
  }
  if (ArrayBuffer.isView(value) || value instanceof ArrayBuffer) {
    return `<${value.byteLength} bytes>`;
  }
  if (depth >= maxDepth) {
    return '…';
  }
  if (value instanceof Map) {
    return printEntries([...value].slice(0, maxItems + 1), depth);
  }
  if (Array.isArray(value) || value instanceof Set) {
    const items: unknown[] = [...value];
    const shown = items.slice(0, maxItems).map((item) => print(item, depth + 1));
    return items.length > maxItems ? [...shown, `… ${items.length - maxItems} more`] : shown;
  }
  return printEntries(Object.entries(value), depth);
}

function printEntries(entries: [unknown, unknown][], depth: number): Record<string, unknown> {
  return Object.fromEntries(
    entries.slice(0, maxItems).map(([name, item]) => {
      const key = typeof name === 'bigint' || typeof name === 'number' ? `${name}` : String(name);
      return [key, secretName.test(key) && item !== undefined ? '***' : print(item, depth + 1)];
    }),
  );
}

function printError(error: Error, depth: number): Record<string, unknown> {
  const fields = error as Error & Record<string, unknown>;
  const printed: Record<string, unknown> = { name: error.name, message: messageOf(error) };
  for (const name of identifying) {
    const value = fields[name];
    if (typeof value === 'string' || typeof value === 'number' || typeof value === 'bigint') {
      printed[name] = print(value, depth);
    }
  }
  if (error.stack !== undefined) {
    // Without its first lines, which repeat the message.
    const frames = error.stack.indexOf('\n    at ');
    printed['stack'] = frames === -1 ? '' : printableText(error.stack.slice(frames + 1));
  }
  if (error.cause !== undefined && depth < maxDepth) {
    printed['cause'] = print(error.cause, depth + 1);
  }
  return printed;
}
