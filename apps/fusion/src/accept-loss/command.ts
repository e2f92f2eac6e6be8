import { parseArgs } from 'node:util';
import { loadPlan } from '@anabranch/compute';
import { connect, KafkaError } from '@anabranch/kafka';
import { acceptedKind, checkServer, type Loss, openPool } from '@anabranch/postgres';
import {
  ConfigError,
  type Environment,
  type ExitCode,
  exitCodes,
  kafkaConnection,
  messageOf,
  readConfig,
} from '@anabranch/service';
import { config } from '../config.ts';
import { databaseConnection } from '../database-settings.ts';
import { acceptLoss, lookAgain } from './accept-loss.ts';
import { commandId } from './first-record.ts';
import { findMissing, type Missing } from './missing.ts';

const usage = `accept-loss --source NAME [--partition N]
  lists the ranges that the services miss, each with the command that accepts it as lost

accept-loss --source NAME --partition N [--branch stream|batch|both|dead] --from OFFSET --to OFFSET --reason TEXT [--by NAME]
  accepts one of them: enters it in anabranch.losses and lets the halted partition go on behind it

The settings are those of fusion: KAFKA_BROKERS, DATABASE_URL, ANABRANCH_DEFINITION and so on.`;

/** A fault of the person who calls the command, or of what was called for. */
class Refusal extends Error {}

interface Request {
  readonly source: string;
  readonly partition: number | null;
  /** null: only list what is missing. */
  readonly range: {
    readonly branch: Loss['branch'];
    readonly from: bigint;
    readonly to: bigint;
    readonly reason: string;
    readonly by: string | null;
  } | null;
}

const patienceMilliseconds = 30_000;

/**
 * The command `accept-loss` of fusion's image.
 * @param print gets each line for people
 * @returns the exit code: 64 where the call, the settings or the range are wrong
 */
export async function runAcceptLoss(
  args: readonly string[],
  env: Environment,
  print: (line: string) => void,
  exitCodeOf: (error: unknown) => ExitCode | undefined,
): Promise<ExitCode> {
  if (args.includes('--help')) {
    print(usage);
    return exitCodes.ok;
  }
  try {
    await execute(readRequest(args), env, print);
    return exitCodes.ok;
  } catch (error) {
    print(error instanceof ConfigError ? error.faults.join('\n') : messageOf(error));
    return error instanceof Refusal || error instanceof ConfigError
      ? exitCodes.config
      : (exitCodeOf(error) ?? exitCodes.internal);
  }
}

async function execute(
  { source, partition, range }: Request,
  env: Environment,
  print: (line: string) => void,
): Promise<void> {
  const settings = readConfig(config, env);
  const { sources } = await loadPlan(settings.ANABRANCH_DEFINITION);
  const plan = sources.get(source);
  if (plan === undefined) {
    throw new Refusal(
      `The definition has no source ${source}: it has ${[...sources.keys()].join(', ')}.`,
    );
  }
  const db = openPool({
    ...databaseConnection(settings),
    applicationName: commandId,
    size: 2,
    // The statement reports it.
    onError: () => undefined,
  });
  try {
    await checkServer(db);
    const kafka = await connect(
      {
        ...kafkaConnection(settings),
        clientId: commandId,
        // What ends the work is thrown; the rest is for services.
        logger: { debug() {}, info() {}, warn() {}, error() {} },
      },
      AbortSignal.timeout(patienceMilliseconds),
    ).catch((error: unknown) => {
      throw error instanceof KafkaError && error.code === 'STOPPED'
        ? new Refusal(`No Kafka answers at ${settings.KAFKA_BROKERS.join(', ')}.`)
        : error;
    });
    try {
      const { missing, hopeless } = await findMissing(plan, kafka, db, partition);
      if (range === null) {
        list(missing, hopeless, source, print);
        return;
      }
      const asked = { ...range, source, partition: partition ?? 0 };
      const found = missing.find(
        (one) =>
          one.partition === asked.partition &&
          one.branch === range.branch &&
          one.from === range.from &&
          one.to === range.to,
      );
      const options = { plan, kafka, db, reason: range.reason, by: range.by };
      if (found === undefined) {
        const kind = await acceptedKind(db, asked);
        if (kind === null) {
          list(missing, hopeless, source, print);
          throw new Refusal('Refused: the range is not one that is missing.');
        }
        await lookAgain({ kind, branch: range.branch }, options);
        print('It was accepted before; the service has been made to look again.');
        return;
      }
      const others = missing.filter((one) => one !== found);
      await acceptLoss(found, others, options);
      print(`Accepted: ${describe(found, source)}.`);
      const left = others.filter((one) => one.partition === asked.partition);
      list(left, [], source, left.length > 0 ? print : () => undefined);
    } finally {
      await kafka.close();
    }
  } finally {
    await db.end();
  }
}

function list(
  missing: readonly Missing[],
  hopeless: readonly string[],
  source: string,
  print: (line: string) => void,
): void {
  for (const line of hopeless) {
    print(line);
  }
  for (const one of missing) {
    const { partition, branch, from, to } = one;
    print(`${describe(one, source)}. To accept it:`);
    print(
      `  accept-loss --source ${source} --partition ${partition} --branch ${branch} --from ${from} --to ${to} --reason "…"`,
    );
  }
  if (missing.length + hopeless.length === 0) {
    print(`Nothing of source ${source} is missing.`);
  }
}

function describe({ partition, branch, kind, from, to }: Missing, source: string): string {
  const where = `${source}/${partition}`;
  const range = `[${from}, ${to})`;
  if (from === to) {
    return `${where}: the place to read on at is gone, and no ${kind} with it (${range})`;
  }
  switch (kind) {
    case 'records':
      return `${where}: records ${range} were deleted before ingest read them`;
    case 'blocks':
      return `${where}: the blocks of source offsets ${range} were deleted before the ${branch}-processor read them`;
    case 'partials':
      return `${where}: the ${branch} partials of source offsets ${range} were deleted before fusion read them`;
    case 'dead letters':
      return `${where}: the dead letters at offsets ${range} of their topic were deleted before fusion read them`;
  }
}

function readRequest(args: readonly string[]): Request {
  const { source, partition, branch, from, to, reason, by } = parse(args);
  if (source === undefined) {
    throw new Refusal(`--source is missing.\n\n${usage}`);
  }
  if (from === undefined && to === undefined) {
    return {
      source,
      partition: partition === undefined ? null : Number(whole(partition)),
      range: null,
    };
  }
  if (partition === undefined || from === undefined || to === undefined || !reason?.trim()) {
    throw new Refusal(`A range needs --partition, --from, --to and --reason.\n\n${usage}`);
  }
  if (!isBranch(branch)) {
    throw new Refusal(`--branch is stream, batch, both or dead: not ${branch}.`);
  }
  return {
    source,
    partition: Number(whole(partition)),
    range: { branch, from: whole(from), to: whole(to), reason: reason.trim(), by: by ?? null },
  };
}

function parse(args: readonly string[]) {
  try {
    return parseArgs({
      args: [...args],
      options: {
        source: { type: 'string' },
        partition: { type: 'string' },
        branch: { type: 'string', default: 'both' },
        from: { type: 'string' },
        to: { type: 'string' },
        reason: { type: 'string' },
        by: { type: 'string' },
      },
    }).values;
  } catch (error) {
    throw new Refusal(`${messageOf(error)}\n\n${usage}`);
  }
}

function whole(text: string): bigint {
  if (!/^\d{1,18}$/.test(text)) {
    throw new Refusal(`Partitions and offsets are whole numbers: not ${text}.`);
  }
  return BigInt(text);
}

function isBranch(text: string): text is Loss['branch'] {
  return ['stream', 'batch', 'both', 'dead'].includes(text);
}
