import { createHash } from 'node:crypto';

/**
 * 16 hex digits over the value's canonical JSON: keys sorted, so that the order in which the loader
 * builds an object doesn't count. Positions and descriptions must not be in it.
 */
export function hashOf(meaning: unknown): string {
  return createHash('sha256').update(canonical(meaning)).digest('hex').slice(0, 16);
}

function canonical(value: unknown): string {
  return JSON.stringify(value, (_key, inner: unknown) =>
    typeof inner === 'object' && inner !== null && !Array.isArray(inner)
      ? Object.fromEntries(Object.entries(inner).toSorted(([a], [b]) => (a < b ? -1 : 1)))
      : inner,
  );
}
