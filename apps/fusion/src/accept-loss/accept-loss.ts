import type { SourcePlan } from '@anabranch/compute';
import {
  type Branch,
  type Coverage,
  encodeBlock,
  encodePartial,
  encodeProcessorPosition,
  internalTopics,
  decodeIngestPosition,
} from '@anabranch/contract';
import { watermark } from '@anabranch/coverage';
import type { Kafka, OutgoingMessage, ProcessedOffset } from '@anabranch/kafka';
import {
  acceptedLoss,
  advanceFrontier,
  claimFrontier,
  type Loss,
  movePosition,
  PostgresError,
  recordLoss,
  settleGap,
  transaction,
} from '@anabranch/postgres';
import { randomUUID } from 'node:crypto';
import type pg from 'pg';
import { commandId } from './first-record.ts';
import { groupOf, type Missing } from './missing.ts';

export interface AcceptOptions {
  readonly plan: SourcePlan;
  readonly kafka: Kafka;
  readonly db: pg.Pool;
  readonly reason: string;
  readonly by: string | null;
}

/**
 * Lets the service that misses the range go on behind it: enters the loss in the ledger, puts an empty
 * piece in the place of what is lost, so that ranges tile in all services behind it, and makes the
 * service's group assign its partitions anew. Done again after a failure, it does what is left to do.
 *
 * @param others what else is missing: fusion's position stays until all of its partition is accepted
 * @throws PostgresError `FENCED` when the frontier has moved meanwhile; what Kafka throws
 */
export async function acceptLoss(
  missing: Missing,
  others: readonly Missing[],
  options: AcceptOptions,
): Promise<void> {
  const { plan, db, reason, by } = options;
  const loss: Loss = { ...missing, source: plan.source.name, reason, by };
  const { results, dead } = internalTopics(plan.source.topic);
  switch (missing.kind) {
    case 'records':
      await record(db, loss);
      await inPlaceOfRecords(missing, options);
      break;
    case 'blocks':
      await record(db, loss);
      await inPlaceOfBlocks(missing, options);
      break;
    case 'partials':
      await inPlaceOfPartials(missing, others, loss, db, results);
      break;
    case 'dead letters':
      await transaction(db, async (client) => {
        await record(client, loss);
        await movePosition(client, dead, missing.partition, missing.resumeAt ?? missing.to);
      });
      break;
  }
  await lookAgain(missing, options);
}

/** Has the partitions of the service that misses such a range assigned anew, so that it looks again. */
export function lookAgain(
  { kind, branch }: Pick<Missing, 'kind' | 'branch'>,
  { plan, kafka }: Pick<AcceptOptions, 'plan' | 'kafka'>,
): Promise<void> {
  const { topic } = plan.source;
  const topics = internalTopics(topic);
  switch (kind) {
    case 'records':
      return rebalance(kafka, groupOf('ingest', plan), [topic]);
    case 'blocks':
      return rebalance(kafka, groupOf(`${branch}-processor`, plan), [topics[branch as Branch]]);
    case 'partials':
    case 'dead letters':
      return rebalance(kafka, groupOf('fusion', plan), [topics.results, topics.dead]);
  }
}

/** First of all: what is skipped without being recorded would be a silent hole. */
async function record(db: pg.Pool | pg.PoolClient, loss: Loss): Promise<void> {
  if (loss.to > loss.from) {
    await recordLoss(db, loss);
  }
}

/** An empty range, under a definition of its own, so that it stands alone in the ledger. */
function coverageOf({ partition, from, to, origin, epoch }: Missing, plan: SourcePlan): Coverage {
  return {
    source: plan.source.name,
    partition,
    origin,
    from,
    to,
    epoch,
    watermark: null,
    definition: acceptedLoss,
    split: { stream: 0n, batch: 0n, dead: 0n, rules: [0n] },
  };
}

/** What ingest would have done with a range without a record. */
async function inPlaceOfRecords(missing: Missing, { plan, kafka }: AcceptOptions): Promise<void> {
  const { partition, from, to } = missing;
  const { topic, disorder } = plan.source;
  const group = groupOf('ingest', plan);
  const [committed] = (await kafka.admin.committed(group, [topic])).filter(
    (at) => at.partition === partition && at.offset === from,
  );
  const position = committed === undefined ? null : decodeIngestPosition(committed.metadata);
  if (committed === undefined || position === null) {
    throw new PostgresError('FENCED', 'Ingest has moved on meanwhile: look again.');
  }
  const { highest } = position;
  const value = encodeBlock({
    ...coverageOf(missing, plan),
    watermark: watermark(highest, disorder),
    producedAt: 0n,
    runs: [],
    altered: [],
    payload: Buffer.alloc(0),
  });
  const topics = internalTopics(topic);
  await commit(
    kafka,
    plan,
    [topics.stream, topics.batch].map((branch) => ({ topic: branch, partition, value })),
    // What ingest knows of the partition stays as it was in front of the range.
    { topic, partition, offset: to, metadata: committed.metadata },
    group,
  );
}

/** What a processor would have done with blocks without a record. */
async function inPlaceOfBlocks(missing: Missing, { plan, kafka }: AcceptOptions): Promise<void> {
  const { partition, from, to, epoch, resumeAt } = missing;
  const branch = missing.branch as Branch;
  const topics = internalTopics(plan.source.topic);
  const values =
    to === from
      ? []
      : encodePartial({
          ...coverageOf(missing, plan),
          branch,
          producedAt: 0n,
          tables: [],
          run: null,
        });
  await commit(
    kafka,
    plan,
    values.map((value) => ({ topic: topics.results, partition, value })),
    {
      topic: topics[branch],
      partition,
      offset: resumeAt ?? 0n,
      metadata: encodeProcessorPosition({ epoch, next: to }),
    },
    groupOf(`${branch}-processor`, plan),
  );
}

async function inPlaceOfPartials(
  missing: Missing,
  others: readonly Missing[],
  loss: Loss,
  db: pg.Pool,
  results: string,
): Promise<void> {
  const { partition, from, to, origin, resumeAt } = missing;
  const branch = missing.branch as Branch;
  await transaction(db, async (client) => {
    await record(client, loss);
    await settleGap(client, loss);
    // A fusion that is still at work there is refused from now on, and reads the frontier anew.
    const claimed = (await claimFrontier(client, loss.source, [partition], commandId)).find(
      (one) => one.branch === branch,
    );
    if (claimed === undefined || (claimed.next ?? origin) !== from) {
      throw new PostgresError('FENCED', 'The frontier has moved meanwhile: look again.');
    }
    if (to > from) {
      const { next: expected, fence } = claimed;
      await advanceFrontier(client, loss.source, [
        {
          partition,
          branch,
          fence,
          expected,
          origin,
          from,
          to,
          watermark: null,
          epoch: 0n,
          definition: acceptedLoss,
          partials: 0,
          streamRecords: 0n,
          batchRecords: 0n,
          deadRecords: 0n,
          ruleRecords: [0n],
        },
      ]);
    }
    const isWhole = !others.some(
      (other) =>
        other.kind === 'partials' && other.partition === partition && other.to > other.from,
    );
    if (resumeAt !== null && isWhole) {
      await movePosition(client, results, partition, resumeAt);
    }
  });
}

/**
 * Commits an offset of a group whose members are at work: brokers take it from a transaction that
 * names no member. The partition's own member is halted in front of the range, so it commits nothing of it.
 */
async function commit(
  kafka: Kafka,
  plan: SourcePlan,
  messages: readonly OutgoingMessage[],
  offset: ProcessedOffset,
  groupId: string,
): Promise<void> {
  const producer = await kafka.transactionalProducer({
    transactionalId: `${commandId}.${plan.source.name}`,
  });
  try {
    await producer.commit(messages, [offset], { groupId, generation: -1, memberId: '' });
  } finally {
    await producer.close();
  }
}

/** Joins the group and leaves it: whoever has halted a partition looks at it again in a new generation. */
async function rebalance(kafka: Kafka, groupId: string, topics: readonly string[]): Promise<void> {
  const { promise, resolve, reject } = Promise.withResolvers<void>();
  const loop = kafka.stepLoop({
    groupId,
    instance: `${commandId}.${randomUUID()}`,
    transactionalId: 'none',
    topics,
    transactional: false,
    limits: { stepBytes: 1, stepMilliseconds: 0, queueHighBytes: 1, queueLowBytes: 1 },
    idleMilliseconds: 1000,
    sessionTimeout: 6_000,
    assigned(partitions, context) {
      for (const { topic, partition } of partitions) {
        context.halt(topic, partition, 'nothing is read here');
      }
      resolve();
    },
    revoked() {},
    step: () => null,
    onFatal: reject,
  });
  loop.start();
  try {
    await promise;
  } finally {
    await loop.stop(1_000);
  }
}
