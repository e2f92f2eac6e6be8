import { mkdir, rm } from 'node:fs/promises';
import path from 'node:path';
import { loadPlan, Processor, type SourcePlan } from '@anabranch/compute';
import { internalTopics } from '@anabranch/contract';
import { type RunningService, type ServiceContext, SourceLoops } from '@anabranch/service';
import type { config } from './config.ts';
import { SourceBatch } from './source-batch.ts';

type Config = ReturnType<(typeof config)['parse']>;

/** Nothing waits for a run's blocks to be spooled, so they are gathered for longer than on the stream. */
const gatherMilliseconds = 500;
const stepBytes = 16 * 1024 * 1024;
/** A Parquet file takes some milliseconds to write, however little is in it. */
const usualFileBytes = 8 * 1024 * 1024;
/**
 * A slice of 64 MB is sent and committed in half a second here. What an instance that vanished left open
 * holds back the readers for this long, unless its successor has its name.
 */
const transactionMilliseconds = 20_000;

export async function start(context: ServiceContext<Config>): Promise<RunningService> {
  const plan = await loadPlan(context.config.ANABRANCH_DEFINITION);
  const loops = await SourceLoops.open('batch-processor', context, plan.sources.size);
  for (const source of plan.sources.values()) {
    await startSource(source, loops, context);
  }
  return loops;
}

async function startSource(
  plan: SourcePlan,
  loops: SourceLoops,
  { config, log, metrics, tracer }: ServiceContext<Config>,
): Promise<void> {
  const { source } = plan;
  const spoolDirectory = path.resolve(config.SPOOL_DIRECTORY, config.INSTANCE, source.name);
  // What a killed process left behind was never committed: it is read from the topic again.
  await rm(spoolDirectory, { recursive: true, force: true });
  await mkdir(spoolDirectory, { recursive: true });
  const processor = await Processor.open(plan, {
    branch: 'batch',
    memoryLimit: config.MEMORY_LIMIT,
    threads: 1,
    spoolDirectory,
  });
  const batch = new SourceBatch({
    plan,
    processor,
    instance: config.INSTANCE,
    spoolDirectory,
    // A slice is made of whole files.
    fileBytes: Math.min(usualFileBytes, config.SLICE_BYTES),
    sliceBytes: config.SLICE_BYTES,
    log,
    metrics,
    tracer,
    processed: (partition, producedAt) => {
      loops.processed(source.name, partition, producedAt);
    },
    now: Date.now,
  });
  const internal = internalTopics(source.topic);
  loops.start(source.name, {
    topics: [internal.batch],
    targets: [internal.results, internal.dead],
    transactional: true,
    transactionTimeout: transactionMilliseconds,
    limits: {
      stepBytes,
      stepMilliseconds: gatherMilliseconds,
      queueHighBytes: 2 * stepBytes,
      queueLowBytes: stepBytes / 2,
    },
    idleMilliseconds: 250,
    assigned: (partitions, assignedContext) => {
      batch.assigned(partitions, assignedContext);
      return Promise.resolve();
    },
    revoked: () => batch.revoked(),
    step: (work, stepContext) => batch.step(work, stepContext),
  });
}
