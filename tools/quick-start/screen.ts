import { styleText } from 'node:util';

/** What Postgres returns in a column. */
export type Value = string | number | boolean | Date | null;

/** What the quick start prints: steps with their outcome, one line that is redrawn, and tables. */
export class Screen {
  readonly #out: NodeJS.WriteStream;
  #isDrawn = false;

  constructor(out: NodeJS.WriteStream) {
    this.#out = out;
  }

  title(text: string): void {
    this.print(`\n${styleText(['bold', 'cyan'], text)}`);
  }

  print(text = ''): void {
    this.#erase();
    this.#out.write(`${text}\n`);
  }

  note(text: string): void {
    this.print(styleText('dim', `    ${text}`));
  }

  /** A line that replaces itself on a terminal; elsewhere nothing, since `done` says how it ended. */
  progress(text: string): void {
    if (this.#out.isTTY) {
      this.#erase();
      this.#out.write(`  ${styleText('yellow', '…')} ${text}`);
      this.#isDrawn = true;
    }
  }

  done(text: string): void {
    this.print(`  ${styleText('green', '✔')} ${text}`);
  }

  failed(text: string): void {
    this.print(`  ${styleText('red', '✘')} ${text}`);
  }

  /** Columns as wide as they need to be, numbers to the right. */
  table(rows: readonly Readonly<Record<string, Value>>[]): void {
    const names = Object.keys(rows[0] ?? {});
    const cells = rows.map((row) => names.map((name) => cell(row[name])));
    const widths = names.map((name, i) =>
      Math.max(name.length, ...cells.map((row) => row[i]?.length ?? 0)),
    );
    const right = names.map((name) => rows.every((row) => isNumeric(row[name])));
    const line = (texts: readonly string[]): string =>
      texts
        .map((text, i) =>
          right[i] === true ? text.padStart(widths[i] ?? 0) : text.padEnd(widths[i] ?? 0),
        )
        .join('  ')
        .trimEnd();
    this.print(`    ${styleText('bold', line(names))}`);
    for (const texts of cells) {
      this.print(`    ${colourStatus(line(texts))}`);
    }
  }

  #erase(): void {
    if (this.#isDrawn) {
      this.#out.write('\r\u001b[K');
      this.#isDrawn = false;
    }
  }
}

function cell(value: Value | undefined): string {
  if (value === null || value === undefined) {
    return '';
  }
  return value instanceof Date ? value.toISOString().replace('.000Z', 'Z') : String(value);
}

function isNumeric(value: Value | undefined): boolean {
  return value === null || /^-?[\d,]+(\.\d+)?$/.test(cell(value));
}

const statusColours = { provisional: 'yellow', final: 'green', corrected: 'magenta' } as const;

function colourStatus(line: string): string {
  return line.replaceAll(/\b(provisional|final|corrected)\b/g, (status) =>
    styleText(statusColours[status as keyof typeof statusColours], status),
  );
}

export function formatCount(count: number | bigint): string {
  return count.toLocaleString('en-US');
}
