/** For names here, the words that people know from elsewhere, without separators. */
const synonyms: ReadonlyMap<string, readonly string[]> = new Map([
  ['avg', ['average', 'mean']],
  ['min', ['minimum', 'lowest']],
  ['max', ['maximum', 'highest']],
  ['sum', ['total']],
  ['where', ['filter']],
  ['columns', ['select', 'fields']],
  ['event_time', ['timestamp']],
  ['disorder', ['lateness']],
  ['split', ['rules']],
]);

/** Thousands of names may be wrong, and each is compared with all that are known. */
const mostCandidates = 1000;

/** `did you mean "…"?` for the known name that is nearest to a mistyped one, if one is near. */
export function didYouMean(name: string, known: Iterable<string>): string | undefined {
  const found = nearest(name, known);
  return found === undefined ? undefined : `did you mean "${found}"?`;
}

function nearest(name: string, known: Iterable<string>): string | undefined {
  const wanted = plain(name);
  if (wanted.length > 64) {
    return undefined;
  }
  let tried = 0;
  let best: string | undefined;
  let bestDistance = Math.max(1, Math.floor(wanted.length / 3)) + 1;
  for (const candidate of known) {
    if (++tried > mostCandidates) {
      break;
    }
    const others = synonyms.get(candidate) ?? [];
    for (const there of [plain(candidate), ...others]) {
      if (Math.abs(there.length - wanted.length) >= bestDistance) {
        continue;
      }
      // A mistyped synonym must be nearer: "median" isn't meant as "mean".
      const distance = editDistance(wanted, there) + (others.includes(there) ? 1 : 0);
      // Of two names that share no letter, none is a typing error of the other.
      if (distance < bestDistance && distance < Math.max(wanted.length, there.length)) {
        best = candidate;
        bestDistance = distance;
      }
    }
  }
  return best;
}

/** As `eventTime`, `event-time` and `event_time` have in common. */
function plain(name: string): string {
  return name.toLowerCase().replaceAll(/[_\-. ]/g, '');
}

/** Insertions, deletions, substitutions, and swaps of neighbours, from one text to the other. */
function editDistance(a: string, b: string): number {
  let beforePrevious: number[] = [];
  let previous = Array.from({ length: b.length + 1 }, (_, j) => j);
  for (let i = 1; i <= a.length; i += 1) {
    const row = [i];
    for (let j = 1; j <= b.length; j += 1) {
      const same = a[i - 1] === b[j - 1];
      let cost = Math.min(
        (previous[j] ?? 0) + 1,
        (row[j - 1] ?? 0) + 1,
        (previous[j - 1] ?? 0) + (same ? 0 : 1),
      );
      if (i > 1 && j > 1 && a[i - 1] === b[j - 2] && a[i - 2] === b[j - 1]) {
        cost = Math.min(cost, (beforePrevious[j - 2] ?? 0) + 1);
      }
      row.push(cost);
    }
    beforePrevious = previous;
    previous = row;
  }
  return previous[b.length] ?? 0;
}
