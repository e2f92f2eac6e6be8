import { faults } from './faults/all.ts';
import type { Outcome } from './round.ts';

/** What all rounds came to, for people. */
export function summary(outcomes: readonly Outcome[]): string {
  const total = (pick: (outcome: Outcome) => number): string =>
    outcomes.reduce((sum, outcome) => sum + pick(outcome), 0).toLocaleString('en');
  const injected = outcomes.flatMap((outcome) => outcome.injected);
  const byName = Map.groupBy(injected, (name) => name);
  const recoveries = Map.groupBy(
    outcomes.flatMap((outcome) => outcome.recoveries),
    ({ fault }) => fault,
  );
  const memory = new Map<string, number>();
  for (const [service, bytes] of outcomes.flatMap((outcome) => [...outcome.memory])) {
    memory.set(service, Math.max(memory.get(service) ?? 0, bytes));
  }
  return `
Rounds      ${outcomes.length}
Records     ${total(({ records }) => records)}
Faults      ${injected.length}
${[...byName]
  .toSorted(([a], [b]) => a.localeCompare(b))
  .map(([name, all]) => `  ${String(all.length).padStart(5)}  ${name} (${faults[name].family})`)
  .join('\n')}
Looks of the reader  ${total(({ looks }) => looks)}, which saw ${total(({ finals }) => finals)} rows become final and ${total(({ corrections }) => corrections)} corrected
From the end of a fault to caught up, in seconds: median, worst
${[...recoveries]
  .toSorted(([a], [b]) => a.localeCompare(b))
  .map(([fault, all]) => {
    const sorted = all.map(({ milliseconds }) => milliseconds).toSorted((a, b) => a - b);
    const seconds = (index: number): string => ((sorted[index] ?? 0) / 1000).toFixed(1).padStart(6);
    return `${seconds(sorted.length >> 1)} ${seconds(sorted.length - 1)}  ${fault}`;
  })
  .join('\n')}
Resident at most, in MiB
${[...memory].map(([service, bytes]) => `${String(Math.round(bytes / 1_048_576)).padStart(6)}  ${service}`).join('\n')}
Violations  ${total(({ violations }) => violations.length)}`;
}
