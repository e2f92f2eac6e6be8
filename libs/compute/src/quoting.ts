/** An identifier as SQL has to write it. Avro's names don't hold a `#`, so `"#…"` is free for ours. */
export function quoteName(name: string): string {
  return `"${name.replaceAll('"', '""')}"`;
}

export function quoteText(text: string): string {
  return `'${text.replaceAll("'", "''")}'`;
}
