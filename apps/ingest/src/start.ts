import { Classifier, loadPlan, type SourcePlan } from '@anabranch/compute';
import { internalTopics } from '@anabranch/contract';
import { type RunningService, type ServiceContext, SourceLoops } from '@anabranch/service';
import type { config } from './config.ts';
import { SourceIngest } from './source-ingest.ts';
import { prepareTopics } from './topics.ts';

type Config = ReturnType<(typeof config)['parse']>;

/** How long a step gathers records after the first one: it adds to the latency of each. */
const gatherMilliseconds = 20;
/** A step's bytes over all partitions, as fetched; a partition's share becomes a block. */
const stepBytes = 4 * 1024 * 1024;
/** Of a block's text: more than that comes only out of compressed batches, and is cut. */
const blockBytes = stepBytes;

export async function start(context: ServiceContext<Config>): Promise<RunningService> {
  const plan = await loadPlan(context.config.ANABRANCH_DEFINITION);
  const loops = await SourceLoops.open('ingest', context, plan.sources.size);
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
  const { admin } = loops.kafka;
  const classifier = await Classifier.open(plan, { memoryLimit: config.MEMORY_LIMIT, threads: 1 });
  const topics = internalTopics(source.topic);
  const ingest = new SourceIngest({
    plan,
    classifier,
    instance: config.INSTANCE,
    log,
    metrics,
    tracer,
    prepareTopics: async () => {
      // Those of the topic, not of the assignment: another instance may have the highest ones.
      const found = await admin.describeTopic(source.topic);
      await prepareTopics(admin, topics, found?.partitions ?? 0);
    },
    ends: () => admin.ends(source.topic),
    streamPositions: () =>
      admin.committed(`anabranch.stream-processor.${source.name}`, [topics.stream]),
    processed: (partition, producedAt) => {
      loops.processed(source.name, partition, producedAt);
    },
    now: Date.now,
    blockBytes,
    stepBytes,
  });
  loops.start(source.name, {
    topics: [source.topic],
    // Of what its steps cost, ingest tells in .results.
    targets: [topics.stream, topics.batch, topics.results, topics.dead],
    transactional: true,
    limits: {
      stepBytes,
      stepMilliseconds: gatherMilliseconds,
      queueHighBytes: 32 * 1024 * 1024,
      queueLowBytes: 8 * 1024 * 1024,
    },
    idleMilliseconds: 500,
    onWaitingForTopic: (topic) => {
      log.warn('the source topic does not exist yet: waiting for it', {
        source: source.name,
        topic,
      });
    },
    assigned: (partitions, assignedContext) => ingest.assigned(partitions, assignedContext),
    revoked: () => {
      ingest.revoked();
    },
    step: (work, stepContext) => ingest.step(work, stepContext),
  });
}
