import type { SourcePlan, TablePlan } from '@anabranch/compute';
import type { Partial } from '@anabranch/contract';
import { later } from '@anabranch/coverage';
import {
  type Advance,
  advanceFrontier,
  copyRows,
  correctWindow,
  countRecords,
  type CoveredRun,
  isLate,
  isWindow,
  lockFinalWatermark,
  mergeUpsert,
  mergeWindow,
  type Position,
  recordRuns,
  stagingTable,
  stateTable,
  type TableCount,
  timestamp,
  writePositions,
} from '@anabranch/postgres';
import type { StageClock } from '@anabranch/service';
import pg from 'pg';
import type { Share } from './partition-frontiers.ts';

/**
 * Applies shares of a source: partials, frontier, ledger and row changes, in the transaction that
 * the client has open. The client needs the temporary tables of `createStaging`.
 *
 * Locks are taken in the same order by all: frontiers, positions, the final watermark, rows by table
 * and key, counts, runs.
 * @throws PostgresError `FENCED` when a frontier isn't where this instance left it
 */
export async function merge(
  client: pg.PoolClient,
  source: SourcePlan,
  shares: readonly Share[],
  positions: readonly Position[],
  clock: StageClock,
): Promise<void> {
  const { name } = source.source;
  const texts = textsByTable(shares);
  const plans = source.tables.filter(({ table }) => texts.has(table.name));
  // First what takes no lock: no timeout ends a session that waits for the rest of a COPY (tried), so
  // a frozen client that had locked the frontier would keep it from the next owner for ever.
  await clock.stage('load', async () => {
    for (const plan of plans) {
      await copyTable(client, plan, texts.get(plan.table.name) ?? []);
    }
  });
  await clock.stage('preprocess', async () => {
    // The compare-and-set: a former owner gets no further.
    for (const advances of advanceRounds(shares)) {
      await advanceFrontier(client, name, advances);
    }
    if (positions.length > 0) {
      await writePositions(client, positions);
    }
  });
  await clock.stage('process', () => mergeTables(client, source, plans, shares));
  await clock.stage('store', async () => {
    const counts = countsOf(shares);
    if (counts.length > 0) {
      await countRecords(client, name, counts);
    }
    const runs = runsOf(shares);
    if (runs.length > 0) {
      await recordRuns(client, name, runs);
    }
  });
}

/**
 * The advances of all shares. A frontier is advanced once for each stretch of partials that ingest
 * split by the same definition, since the ledger's counts per rule are of one definition: nearly
 * always once.
 */
function advanceRounds(shares: readonly Share[]): Advance[][] {
  const rounds: Advance[][] = [];
  for (const { partition, branch, before, partials } of shares) {
    let expected = before.next;
    stretchesOf(partials).forEach((stretch, round) => {
      const advance = { partition, branch, fence: before.fence, expected, ...sumOf(stretch) };
      (rounds[round] ??= []).push(advance);
      expected = advance.to;
    });
  }
  return rounds;
}

function stretchesOf(partials: readonly Partial[]): [Partial, ...Partial[]][] {
  const stretches: [Partial, ...Partial[]][] = [];
  for (const partial of partials) {
    const stretch = stretches.at(-1);
    if (stretch?.[0].definition === partial.definition) {
      stretch.push(partial);
    } else {
      stretches.push([partial]);
    }
  }
  return stretches;
}

function sumOf(
  partials: readonly [Partial, ...Partial[]],
): Omit<Advance, 'partition' | 'branch' | 'fence' | 'expected'> {
  const [first] = partials;
  const last = partials.at(-1) ?? first;
  const sum = (pick: (partial: Partial) => bigint): bigint =>
    partials.reduce((total, partial) => total + pick(partial), 0n);
  return {
    origin: first.origin,
    from: first.from,
    to: last.to,
    watermark: partials.reduce<bigint | null>(
      (highest, { watermark }) => later(highest, watermark),
      null,
    ),
    epoch: last.epoch,
    definition: first.definition,
    partials: partials.length,
    streamRecords: sum(({ split }) => split.stream),
    batchRecords: sum(({ split }) => split.batch),
    deadRecords: sum(({ split }) => split.dead),
    ruleRecords: first.split.rules.map((_, rule) => sum(({ split }) => split.rules[rule] ?? 0n)),
  };
}

/** The rows to merge, as text, per table. */
function textsByTable(shares: readonly Share[]): Map<string, Buffer[]> {
  const texts = new Map<string, Buffer[]>();
  for (const { partials } of shares) {
    for (const { tables } of partials) {
      for (const { name, rows, text } of tables) {
        if (rows > 0n) {
          const known = texts.get(name);
          if (known === undefined) {
            texts.set(name, [text]);
          } else {
            known.push(text);
          }
        }
      }
    }
  }
  return texts;
}

/** A record's own row goes straight to its table; what has to be merged waits in a temporary one. */
async function copyTable(
  client: pg.PoolClient,
  { table, columns }: TablePlan,
  texts: readonly Buffer[],
): Promise<void> {
  const target = table.kind === 'append' ? stateTable(table.name) : stagingTable(table.name);
  const names = columns.map(({ name }) => pg.escapeIdentifier(name));
  await copyRows(client, target, names, texts);
}

async function mergeTables(
  client: pg.PoolClient,
  { source, tables }: SourcePlan,
  staged: readonly TablePlan[],
  shares: readonly Share[],
): Promise<void> {
  let final: bigint | null = null;
  if (staged.some(isWindow)) {
    const own = shares
      .map(({ before }) => before.watermark)
      .reduce((a, b) => (a === null || b === null ? null : a < b ? a : b));
    if (await isLate(client, source.name, tables.filter(isWindow), own)) {
      final = await lockFinalWatermark(client, source.name);
    }
  }
  for (const plan of staged) {
    const { name } = plan.table;
    if (isWindow(plan)) {
      await client.query(
        final === null
          ? { name: `merge ${name}`, text: mergeWindow(plan) }
          : { name: `correct ${name}`, text: correctWindow(plan), values: [timestamp(final)] },
      );
    } else if (plan.table.kind === 'upsert') {
      await client.query({ name: `merge ${name}`, text: mergeUpsert(plan) });
    }
  }
}

function runsOf(shares: readonly Share[]): CoveredRun[] {
  return shares.flatMap(({ partition, partials }) =>
    partials.flatMap(({ run, from, to }) => (run === null ? [] : [{ run, partition, from, to }])),
  );
}

function countsOf(shares: readonly Share[]): TableCount[] {
  const counts = new Map<string, TableCount>();
  for (const { partition, branch, partials } of shares) {
    for (const { name, read, filtered, aggregated, dead } of partials.flatMap(
      ({ tables }) => tables,
    )) {
      const key = JSON.stringify([name, partition, branch]);
      const sum = counts.get(key);
      counts.set(key, {
        table: name,
        partition,
        branch,
        read: (sum?.read ?? 0n) + read,
        filtered: (sum?.filtered ?? 0n) + filtered,
        aggregated: (sum?.aggregated ?? 0n) + aggregated,
        dead: (sum?.dead ?? 0n) + dead,
      });
    }
  }
  return [...counts.values()].filter(({ read }) => read > 0n);
}
