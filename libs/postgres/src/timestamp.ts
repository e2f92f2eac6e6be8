/** Years 1 to 9999, which toISOString and Postgres write alike. */
const first = -62_135_596_800_000_000n;
const last = 253_402_300_799_999_999n;

/**
 * A point in time for Postgres to the microsecond, from microseconds since 1970. What is outside of
 * the years 1 to 9999 becomes their nearest end: event times aren't, but a watermark is some
 * disorder in front of one, and 0001-01-01 is what some systems write for "unknown".
 */
export function timestamp(microseconds: bigint): string {
  const bounded = microseconds < first ? first : microseconds > last ? last : microseconds;
  const rest = ((bounded % 1000n) + 1000n) % 1000n;
  const milliseconds = (bounded - rest) / 1000n;
  const iso = new Date(Number(milliseconds)).toISOString();
  return `${iso.slice(0, -1)}${String(rest).padStart(3, '0')}Z`;
}
