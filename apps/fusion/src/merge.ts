import type { SourcePlan, TablePlan } from '@anabranch/compute';
import type { Partial } from '@anabranch/contract';
import { later } from '@anabranch/coverage';
import {
  type Advance,
  advanceFrontier,
  copyRows,
  countRecords,
  createStaging,
  isStagedBefore,
  isWindow,
  keepFinalRows,
  lockFinalWatermark,
  mergeUpsert,
  mergeWindow,
  type Position,
  readFinalWatermark,
  recordCorrections,
  recordRun,
  stagingTable,
  stateTable,
  type TableCount,
  timestamp,
  type WindowPlan,
  writePositions,
} from '@anabranch/postgres';
import type { StageClock } from '@anabranch/service';
import pg from 'pg';
import type { Share } from './partition-frontiers.ts';

/** Connections whose temporary tables exist. */
const prepared = new WeakSet<pg.PoolClient>();

/**
 * Applies shares of a source: partials, frontier, ledger and row changes, in the transaction that
 * the client has open.
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
  if (!prepared.has(client)) {
    await client.query(source.tables.map(createStaging).join('\n'));
    prepared.add(client);
  }
  await clock.stage('preprocess', async () => {
    // The compare-and-set comes first: a former owner stops before it does any work.
    if (shares.length > 0) {
      await advanceFrontier(client, name, shares.map(advanceOf));
    }
    await writePositions(client, positions);
  });
  const texts = textsByTable(shares);
  const final = new FinalWindows(client, name, shares);
  for (const plan of source.tables) {
    const rows = texts.get(plan.table.name);
    if (rows !== undefined) {
      await mergeTable(client, plan, rows, final, clock);
    }
  }
  await clock.stage('store', async () => {
    const counts = countsOf(shares);
    if (counts.length > 0) {
      await countRecords(client, name, counts);
    }
    for (const { partition, partials } of shares) {
      for (const { run, from, to } of partials) {
        if (run !== null) {
          await recordRun(client, name, run, { partition, from, to });
        }
      }
    }
  });
}

function advanceOf({ partition, branch, before, partials }: Share): Advance {
  const [first] = partials;
  const last = partials.at(-1);
  if (first === undefined || last === undefined) {
    throw new Error('A share holds at least one partial.');
  }
  const sum = (pick: (partial: Partial) => bigint): bigint =>
    partials.reduce((total, partial) => total + pick(partial), 0n);
  return {
    partition,
    branch,
    fence: before.fence,
    expected: before.next,
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

/** Learns which windows were final before this merge; locks only when one of its rows may be. */
class FinalWindows {
  readonly #client: pg.PoolClient;
  readonly #source: string;
  readonly #shares: readonly Share[];
  #possible: Promise<bigint | null> | undefined;
  #locked: Promise<bigint | null> | undefined;

  constructor(client: pg.PoolClient, source: string, shares: readonly Share[]) {
    this.#client = client;
    this.#source = source;
    this.#shares = shares;
  }

  /** Event time in front of which a window may be final before this transaction commits. */
  possible(): Promise<bigint | null> {
    this.#possible ??= readFinalWatermark(this.#client, this.#source).then((read) => {
      const own = this.#shares.map(({ before }) => before.watermark);
      const least = own.reduce((a, b) => (a === null || b === null ? null : a < b ? a : b));
      return later(read, least);
    });
    return this.#possible;
  }

  /** Event time in front of which windows are final, from now until the transaction ends. */
  locked(): Promise<bigint | null> {
    this.#locked ??= lockFinalWatermark(this.#client, this.#source);
    return this.#locked;
  }
}

async function mergeTable(
  client: pg.PoolClient,
  plan: TablePlan,
  texts: readonly Buffer[],
  final: FinalWindows,
  clock: StageClock,
): Promise<void> {
  const { table, columns } = plan;
  const target = table.kind === 'append' ? stateTable(table.name) : stagingTable(table.name);
  const names = columns.map(({ name }) => pg.escapeIdentifier(name));
  await clock.stage('load', () => copyRows(client, target, names, texts));
  await clock.stage('process', async () => {
    if (isWindow(plan)) {
      await mergeWindows(client, plan, final);
    } else if (table.kind === 'upsert') {
      await client.query({ name: `merge ${table.name}`, text: mergeUpsert(plan) });
    }
  });
}

async function mergeWindows(
  client: pg.PoolClient,
  plan: WindowPlan,
  final: FinalWindows,
): Promise<void> {
  const { name } = plan.table;
  const run = async (label: string, text: string, time: bigint | null): Promise<void> => {
    await client.query({
      name: `${label} ${name}`,
      text,
      values: [time === null ? null : timestamp(time)],
    });
  };
  const possible = await final.possible();
  const late = possible !== null && (await isStagedBefore(client, plan, possible));
  const time = late ? await final.locked() : null;
  if (time === null) {
    await run('merge', mergeWindow(plan), null);
    return;
  }
  for (const [index, text] of keepFinalRows(plan).entries()) {
    await run(`keep ${index}`, text, time);
  }
  await run('merge', mergeWindow(plan), time);
  for (const [index, text] of recordCorrections(plan).entries()) {
    await run(`correct ${index}`, text, time);
  }
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
