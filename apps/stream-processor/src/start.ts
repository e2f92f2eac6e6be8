import { loadPlan, Processor, type SourcePlan } from '@anabranch/compute';
import { internalTopics } from '@anabranch/contract';
import { connect, type Kafka } from '@anabranch/kafka';
import {
  kafkaConnection,
  type RunningService,
  type ServiceContext,
  SourceLoops,
} from '@anabranch/service';
import type { config } from './config.ts';
import { SourceStream } from './source-stream.ts';

type Config = ReturnType<(typeof config)['parse']>;

export async function start(context: ServiceContext<Config>): Promise<RunningService> {
  const { config, log, metrics, signal } = context;
  const plan = await loadPlan(config.ANABRANCH_DEFINITION);
  const clientId = `anabranch.stream-processor.${config.INSTANCE}`;
  const kafka = await connect({ ...kafkaConnection(config), clientId, logger: log }, signal);
  const loops = new SourceLoops(metrics, () => kafka.close());
  for (const source of plan.sources.values()) {
    await startSource(source, kafka, loops, context);
  }
  return loops;
}

async function startSource(
  plan: SourcePlan,
  kafka: Kafka,
  loops: SourceLoops,
  { config, metrics, fatal }: ServiceContext<Config>,
): Promise<void> {
  const { source } = plan;
  const processor = await Processor.open(plan, {
    branch: 'stream',
    memoryLimit: config.MEMORY_LIMIT,
    threads: 1,
  });
  const stream = new SourceStream({
    plan,
    processor,
    instance: config.INSTANCE,
    metrics,
    processed: (partition, producedAt) => {
      loops.processed(source.name, partition, producedAt);
    },
  });
  const loop = kafka.stepLoop({
    groupId: `anabranch.stream-processor.${source.name}`,
    instance: config.INSTANCE,
    transactionalId: `anabranch.stream-processor.${source.name}.${config.INSTANCE}`,
    topics: [internalTopics(source.topic).stream],
    transactional: true,
    sessionTimeout: config.SESSION_SECONDS * 1000,
    limits: {
      stepBytes: config.STEP_BYTES,
      stepMilliseconds: config.STEP_MILLISECONDS,
      queueHighBytes: 4 * config.STEP_BYTES,
      queueLowBytes: config.STEP_BYTES,
    },
    idleMilliseconds: 1000,
    assigned: (partitions, assignedContext) => {
      stream.assigned(partitions, assignedContext);
      return Promise.resolve();
    },
    revoked: () => {
      stream.revoked();
    },
    step: (work, stepContext) => stream.step(work, stepContext),
    onFatal: fatal,
  });
  loops.start(source.name, loop);
}
