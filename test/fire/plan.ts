import { Dice } from '../random.ts';
import { type FaultName, faults } from './faults/all.ts';

export interface PlannedFault {
  readonly name: FaultName;
  /** Of the choices that the fault makes. */
  readonly seed: number;
}

/** What one round does: it follows from the seed, so that a round can be run again. */
export interface Plan {
  readonly seed: number;
  /** Partitions of each source at the beginning. */
  readonly partitions: readonly number[];
  /** Of each source. */
  readonly recordsPerSecond: number;
  /** In order; the faults of a step happen at once. */
  readonly steps: readonly (readonly PlannedFault[])[];
}

export interface PlanOptions {
  readonly seed: number;
  /** Among which to choose. */
  readonly names: readonly FaultName[];
  readonly steps: number;
}

/** Faults of which one round has one at the most, since they only ever add. */
const once: ReadonlySet<FaultName> = new Set(['partitions-added']);

/**
 * Each fault of `names` comes once before any comes again, in an order that the seed decides, alone or with
 * one of another family: two faults of a family would want the same server.
 */
export function planRound({ seed, names, steps }: PlanOptions): Plan {
  const dice = new Dice(seed);
  const partitions = [dice.between(2, 4), dice.between(1, 3)];
  const recordsPerSecond = dice.of([900, 1200, 1500]);
  let deck: FaultName[] = [];
  let left = [...names];
  const draw = (beside?: PlannedFault): PlannedFault | undefined => {
    if (deck.length === 0) {
      deck = shuffled(left, dice);
    }
    const at = deck.findLastIndex(
      (name) => beside === undefined || faults[name].family !== faults[beside.name].family,
    );
    const [name] = deck.splice(at, at < 0 ? 0 : 1);
    if (name === undefined) {
      return undefined;
    }
    if (once.has(name) && left.length > 1) {
      left = left.filter((other) => other !== name);
    }
    return { name, seed: dice.below(2 ** 31) };
  };
  return {
    seed,
    partitions,
    recordsPerSecond,
    steps: Array.from({ length: steps }, () => {
      const first = draw();
      const second = dice.chance(0.35) ? draw(first) : undefined;
      return [first, second].filter((fault) => fault !== undefined);
    }),
  };
}

function shuffled<T>(items: readonly T[], dice: Dice): T[] {
  const left = [...items];
  const out: T[] = [];
  while (left.length > 0) {
    out.push(...left.splice(dice.below(left.length), 1));
  }
  return out;
}
