import { loadPlan, Processor, type SourcePlan } from '@anabranch/compute';
import { internalTopics } from '@anabranch/contract';
import { type RunningService, type ServiceContext, SourceLoops } from '@anabranch/service';
import type { config } from './config.ts';
import { SourceStream } from './source-stream.ts';

type Config = ReturnType<(typeof config)['parse']>;

export async function start(context: ServiceContext<Config>): Promise<RunningService> {
  const plan = await loadPlan(context.config.ANABRANCH_DEFINITION);
  const loops = await SourceLoops.open('stream-processor', context, plan.sources.size);
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
  const processor = await Processor.open(plan, {
    branch: 'stream',
    memoryLimit: config.MEMORY_LIMIT,
    threads: 1,
  });
  const limits = {
    stepBytes: config.STEP_BYTES,
    stepMilliseconds: config.STEP_MILLISECONDS,
    queueHighBytes: 4 * config.STEP_BYTES,
    queueLowBytes: config.STEP_BYTES,
  };
  const stream = new SourceStream({
    plan,
    processor,
    instance: config.INSTANCE,
    log,
    metrics,
    limits,
    tracer,
    processed: (partition, producedAt) => {
      loops.processed(source.name, partition, producedAt);
    },
  });
  const internal = internalTopics(source.topic);
  loops.start(source.name, {
    topics: [internal.stream],
    targets: [internal.results, internal.dead],
    transactional: true,
    limits,
    idleMilliseconds: 1000,
    assigned: (partitions, assignedContext) => {
      stream.assigned(partitions, assignedContext);
      return Promise.resolve();
    },
    revoked: () => {
      stream.revoked();
    },
    step: (work, stepContext) => stream.step(work, stepContext),
  });
}
