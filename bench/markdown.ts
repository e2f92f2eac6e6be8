/** As Prettier would write it: words to the left, numbers to the right. */
export function markdown(head: readonly string[], rows: readonly (readonly string[])[]): string {
  const isNumber = head.map((_, column) =>
    rows.every((row) => /^[<>]?[\d.,]+( [%×])?$|^–$/.test(row[column] ?? '')),
  );
  const widths = head.map((title, column) =>
    Math.max(3, title.length, ...rows.map((row) => row[column]?.length ?? 0)),
  );
  const line = (cells: readonly string[]): string =>
    `| ${cells
      .map((cell, i) => (isNumber[i] ? cell.padStart(widths[i] ?? 0) : cell.padEnd(widths[i] ?? 0)))
      .join(' | ')} |`;
  const rule = widths.map((width, i) =>
    isNumber[i] ? `${'-'.repeat(width - 1)}:` : '-'.repeat(width),
  );
  return [line(head), line(rule), ...rows.map(line)].join('\n');
}

/** Tables with their titles, one behind another. */
export function sections(tables: readonly (readonly [title: string, table: string])[]): string {
  return tables.map(([title, table]) => `**${title}**\n\n${table}\n`).join('\n');
}

/** With commas between thousands; `–` for what isn't known. */
export function formatCount(count: number): string {
  return Number.isNaN(count) ? '–' : Math.round(count).toLocaleString('en-US');
}

/** `–` for what isn't known. */
export function formatNumber(value: number | null | undefined, digits: number): string {
  return value === null || value === undefined || Number.isNaN(value) ? '–' : value.toFixed(digits);
}

/** `–` for what isn't known. */
export function formatMegabytes(bytes: number | null): string {
  return formatNumber(bytes === null ? null : bytes / 1e6, 0);
}

export function formatPercent(share: number | null): string {
  return share === null ? '–' : `${(share * 100).toFixed(0)} %`;
}

/**
 * A text with what stands between two marks replaced.
 * @throws when a mark is missing
 */
export function replaceFigures(readme: string, section: string, figures: string): string {
  const begin = `<!-- figures of ${section} begin -->`;
  const end = `<!-- figures of ${section} end -->`;
  const from = readme.indexOf(begin);
  const to = readme.indexOf(end);
  if (from < 0 || to < from) {
    throw new Error(`bench/README.md has no place for figures: ${begin} and ${end}`);
  }
  return `${readme.slice(0, from)}${begin}\n\n${figures}\n${readme.slice(to)}`;
}
