import { loadPlan, type SourcePlan } from '@anabranch/compute';
import { internalTopics } from '@anabranch/contract';
import {
  checkServer,
  createStaging,
  isUnavailable,
  namingPrivileges,
  openPool,
} from '@anabranch/postgres';
import { type RunningService, type ServiceContext, SourceLoops } from '@anabranch/service';
import type pg from 'pg';
import type { config } from './config.ts';
import { databaseConnection, databaseWarnings } from './database-settings.ts';
import { setUp } from './migrate-command.ts';
import { SourceFusion } from './source-fusion.ts';

type Config = ReturnType<(typeof config)['parse']>;

/** How long partials are gathered for one transaction after the first one: it adds to the latency. */
const gatherMilliseconds = 20;
const stepBytes = 16 * 1024 * 1024;

export async function start(context: ServiceContext<Config>): Promise<RunningService> {
  const { config, log, waitFor } = context;
  const plan = await loadPlan(config.ANABRANCH_DEFINITION);
  for (const warning of databaseWarnings(config)) {
    log.warn(warning);
  }
  const pool = openPool({
    ...databaseConnection(config),
    applicationName: `anabranch.fusion.${config.INSTANCE}`,
    size: 2 * plan.sources.size + 1,
    onError: (error) => {
      log.repeat('postgres', 'warn', 'a connection to Postgres broke', { error });
    },
    prepare: (client) => createStaging(client, plan.tables.values()),
  });
  const isFinal = (error: unknown): boolean => !isUnavailable(error);
  await waitFor('Postgres', () => checkServer(pool), { isFinal });
  await waitFor('Postgres', () => setUp(pool, plan, config.READER_ROLE), { isFinal });
  const loops = await SourceLoops.open('fusion', context, plan.sources.size, () => pool.end());
  for (const source of plan.sources.values()) {
    startSource(source, pool, loops, context);
  }
  return loops;
}

function startSource(
  plan: SourcePlan,
  pool: pg.Pool,
  loops: SourceLoops,
  { config, log, metrics, tracer }: ServiceContext<Config>,
): void {
  const { source } = plan;
  const fusion = new SourceFusion({
    plan,
    pool,
    instance: config.INSTANCE,
    log,
    metrics,
    tracer,
    countPartitions: async () =>
      (await loops.kafka.admin.describeTopic(source.topic))?.partitions ?? 0,
    processed: (partition, producedAt) => {
      loops.processed(source.name, partition, producedAt);
    },
  });
  const { results, dead } = internalTopics(source.topic);
  /** A privilege that is taken away while fusion runs is named as one that was never there. */
  const named = async <T>(work: Promise<T>): Promise<T> => {
    try {
      return await work;
    } catch (error) {
      throw await namingPrivileges(pool, plan.tables, error);
    }
  };
  loops.start(source.name, {
    topics: [results, dead],
    // Postgres has the truth; the group's offsets only show how far fusion is.
    transactional: false,
    limits: {
      stepBytes,
      stepMilliseconds: gatherMilliseconds,
      queueHighBytes: 2 * stepBytes,
      queueLowBytes: stepBytes / 2,
    },
    idleMilliseconds: 500,
    assigned: (partitions) => named(fusion.assigned(partitions)),
    revoked: () => {
      fusion.revoked();
    },
    step: (work, stepContext) => named(fusion.step(work, stepContext)),
  });
}
