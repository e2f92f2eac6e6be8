import type { SourcePlan } from '@anabranch/compute';
import type { Branch, Partial } from '@anabranch/contract';
import { judge, later } from '@anabranch/coverage';
import type { Claimed, Conflict } from '@anabranch/postgres';

/** What this instance knows of one branch of one partition that it has claimed. */
export interface BranchFrontier {
  readonly fence: bigint;
  /** null: nothing was applied so far. */
  readonly next: bigint | null;
  readonly watermark: bigint | null;
}

/**
 * The frontiers that this instance has claimed, as Postgres has them: they move when a transaction
 * has committed and not before, so after any failure they are claimed and read anew.
 */
export class PartitionFrontiers {
  readonly #frontiers = new Map<string, BranchFrontier>();

  claim(claimed: readonly Claimed[]): void {
    for (const { partition, branch, ...frontier } of claimed) {
      this.#frontiers.set(key(partition, branch), frontier);
    }
  }

  clear(): void {
    this.#frontiers.clear();
  }

  get(partition: number, branch: Branch): BranchFrontier {
    const frontier = this.#frontiers.get(key(partition, branch));
    if (frontier === undefined) {
      throw new Error(`Partition ${partition} of the ${branch} branch isn't claimed.`);
    }
    return frontier;
  }

  /** Takes over what a committed transaction has applied. */
  advance(shares: readonly Share[]): void {
    for (const { partition, branch, partials } of shares) {
      const before = this.get(partition, branch);
      const last = partials.at(-1);
      if (last !== undefined) {
        this.#frontiers.set(key(partition, branch), {
          fence: before.fence,
          next: last.to,
          watermark: partials.reduce(
            (highest, { watermark }) => later(highest, watermark),
            before.watermark,
          ),
        });
      }
    }
  }
}

const key = (partition: number, branch: Branch): string => `${partition}/${branch}`;

/** Adjacent partials of one branch of one partition, to be applied in one transaction. */
export interface Share {
  readonly partition: number;
  readonly branch: Branch;
  readonly before: BranchFrontier;
  readonly partials: Partial[];
}

/** A partial that can't be applied: its partition is halted. */
export interface Misfit {
  readonly partial: Partial;
  readonly verdict: Conflict['verdict'];
  /** The frontier that it doesn't fit. */
  readonly next: bigint;
  /** For people: what is wrong, and what to do. */
  readonly reason: string;
}

export interface Judged {
  readonly shares: Share[];
  readonly replayed: Partial[];
  /** The first one of each partition that has any. */
  readonly misfits: Misfit[];
}

/**
 * Applies the merge law to partials in the order in which they were read. Behind a partial that
 * doesn't fit, nothing of its partition is taken.
 */
export function judgePartials(
  partials: readonly Partial[],
  frontiers: PartitionFrontiers,
  plan: Pick<SourcePlan, 'tables'>,
): Judged {
  const shares = new Map<string, Share>();
  const replayed: Partial[] = [];
  const misfits = new Map<number, Misfit>();
  for (const partial of partials) {
    const { partition, branch, origin } = partial;
    if (misfits.has(partition)) {
      continue;
    }
    const name = key(partition, branch);
    const share = shares.get(name);
    const before = share?.before ?? frontiers.get(partition, branch);
    const next = share?.partials.at(-1)?.to ?? before.next ?? origin;
    const verdict = judge(next, partial);
    if (verdict === 'replay') {
      replayed.push(partial);
      continue;
    }
    const fault =
      verdict === 'merge'
        ? (rangeFault(partial) ?? tableFault(partial, plan))
        : misfitReason(partial, verdict, next);
    if (fault !== null) {
      misfits.set(partition, {
        partial,
        verdict: verdict === 'merge' ? 'refused' : verdict,
        next,
        reason: fault,
      });
    } else if (share === undefined) {
      shares.set(name, { partition, branch, before, partials: [partial] });
    } else {
      share.partials.push(partial);
    }
  }
  return { shares: [...shares.values()], replayed, misfits: [...misfits.values()] };
}

function misfitReason(
  { branch, from, to }: Partial,
  verdict: 'gap' | 'overlap',
  next: bigint,
): string {
  return verdict === 'gap'
    ? `Source offsets [${next}, ${from}) are missing on the ${branch} branch: see docs/operations.md, "A partition is halted".`
    : `The ${branch} partial [${from}, ${to}) overlaps what is applied up to ${next}: see docs/operations.md, "A partition is halted".`;
}

/** Merged, it would move the frontier back, and what is applied would be applied again. */
function rangeFault({ branch, from, to }: Partial): string | null {
  return to < from
    ? `The ${branch} partial [${from}, ${to}) ends before it begins: see docs/operations.md, "A partition is halted".`
    : null;
}

/** A partial that knows other tables than this service would leave records out of one of them. */
function tableFault(
  { tables, branch, split }: Partial,
  plan: Pick<SourcePlan, 'tables'>,
): string | null {
  if (tables.length === 0 && split[branch] === 0n) {
    return null;
  }
  const got = new Map(tables.map(({ name, hash }) => [name, hash]));
  const differs = plan.tables.find(({ table }) => got.get(table.name) !== table.hash)?.table.name;
  const unknown = tables.find(
    ({ name }) => !plan.tables.some(({ table }) => table.name === name),
  )?.name;
  const name = differs ?? unknown;
  const short = tables.find(
    ({ read, filtered, aggregated, dead }) =>
      read !== split[branch] || read !== filtered + aggregated + dead,
  )?.name;
  if (name === undefined && short !== undefined) {
    return `A ${branch} partial accounts for other records of table ${short} than ingest has split: see docs/operations.md, "A partition is halted".`;
  }
  return name === undefined
    ? null
    : `The ${branch}-processor and fusion have different definitions of table ${name}: deploy the same definition to all services.`;
}
