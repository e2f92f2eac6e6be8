/** A point in time for Postgres to the microsecond, from microseconds since 1970. */
export function timestamp(microseconds: bigint): string {
  const rest = ((microseconds % 1000n) + 1000n) % 1000n;
  const milliseconds = (microseconds - rest) / 1000n;
  const iso = new Date(Number(milliseconds)).toISOString();
  return `${iso.slice(0, -1)}${String(rest).padStart(3, '0')}Z`;
}
