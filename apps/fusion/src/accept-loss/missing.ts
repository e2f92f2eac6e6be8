import type { SourcePlan } from '@anabranch/compute';
import {
  type Branch,
  decodeBlock,
  decodeIngestPosition,
  decodeProcessorPosition,
  type InternalTopics,
  internalTopics,
  type IngestPosition,
  isTelemetry,
  PartialAssembler,
} from '@anabranch/contract';
import { judge, watermark } from '@anabranch/coverage';
import type { Kafka, PartitionOffsets } from '@anabranch/kafka';
import { type FrontierRow, type Loss, readFrontier, readPositions } from '@anabranch/postgres';
import type pg from 'pg';
import { firstRecord } from './first-record.ts';

/** A range that a service misses: it has halted the partition, or will. */
export type Missing = Pick<Loss, 'partition' | 'branch' | 'kind' | 'from' | 'to' | 'eventTimes'> & {
  /** Source offset that ingest began at, and when. */
  readonly origin: bigint;
  readonly epoch: bigint;
  /** Where the service reads on behind the range, in its topic; null: where it is. */
  readonly resumeAt: bigint | null;
};

export interface Findings {
  readonly missing: readonly Missing[];
  /** What stands still and can't be accepted as lost, with what to do. */
  readonly hopeless: readonly string[];
}

/** What the services have stored of a source, and what its topics have. */
interface Known {
  readonly plan: SourcePlan;
  readonly kafka: Kafka;
  readonly topics: InternalTopics;
  readonly ends: ReadonlyMap<string, ReadonlyMap<number, PartitionOffsets>>;
  /** Per group and partition. */
  readonly committed: ReadonlyMap<
    string,
    ReadonlyMap<number, { offset: bigint; metadata: string }>
  >;
  readonly frontiers: readonly FrontierRow[];
  readonly positions: ReadonlyMap<string, ReadonlyMap<number, bigint>>;
}

export const groupOf = (service: string, plan: SourcePlan): string =>
  `anabranch.${service}.${plan.source.name}`;

/**
 * Compares what each service would read next of a source with what Kafka still has.
 * @throws KafkaError, PostgresError, ContractError for a message that can't be read
 */
export async function findMissing(
  plan: SourcePlan,
  kafka: Kafka,
  db: pg.Pool,
  only: number | null,
): Promise<Findings> {
  const known = await look(plan, kafka, db);
  const missing: Missing[] = [];
  const hopeless: string[] = [];
  const partitions = [...(known.ends.get(plan.source.topic)?.keys() ?? [])];
  for (const partition of partitions.filter((one) => only === null || one === only)) {
    const ingest = ingestPosition(known, partition, hopeless);
    missing.push(...(await missingRecords(known, partition, ingest)));
    for (const branch of ['stream', 'batch'] as const) {
      missing.push(...(await missingBlocks(known, partition, branch, ingest, hopeless)));
      missing.push(...(await missingPartials(known, partition, branch, ingest)));
    }
    missing.push(...missingLetters(known, partition));
  }
  return { missing, hopeless };
}

async function look(plan: SourcePlan, kafka: Kafka, db: pg.Pool): Promise<Known> {
  const { topic, name } = plan.source;
  const topics = internalTopics(topic);
  const ends = new Map<string, Map<number, PartitionOffsets>>();
  for (const one of [topic, ...(Object.values(topics) as string[])]) {
    const offsets = await kafka.admin.offsets(one);
    ends.set(one, new Map(offsets.map((at) => [at.partition, at])));
  }
  const committed = new Map<string, Map<number, { offset: bigint; metadata: string }>>();
  for (const [service, read] of [
    ['ingest', topic],
    ['stream-processor', topics.stream],
    ['batch-processor', topics.batch],
  ] as const) {
    const offsets = await kafka.admin.committed(groupOf(service, plan), [read]);
    committed.set(service, new Map(offsets.map((at) => [at.partition, at])));
  }
  const partitions = [...(ends.get(topic)?.keys() ?? [])];
  const positions = new Map<string, Map<number, bigint>>();
  for (const one of [topics.results, topics.dead]) {
    positions.set(one, await readPositions(db, one, partitions));
  }
  return {
    plan,
    kafka,
    topics,
    ends,
    committed,
    frontiers: await readFrontier(db, name),
    positions,
  };
}

/** Why the command accepts nothing then. */
const createdAnew =
  'The topic was created anew, or offsets were lost: they may name other records now, so nothing can be accepted as a loss. See docs/operations.md, "A source topic that was created anew".';

interface Ingested extends IngestPosition {
  /** Source offset that ingest reads next. */
  readonly next: bigint;
}

function ingestPosition(
  { committed, ends, plan }: Known,
  partition: number,
  hopeless: string[],
): Ingested | null {
  const at = committed.get('ingest')?.get(partition);
  const position = at === undefined ? null : decodeIngestPosition(at.metadata);
  if (at === undefined || position === null) {
    return null;
  }
  const { topic } = plan.source;
  const latest = ends.get(topic)?.get(partition)?.latest ?? 0n;
  if (at.offset > latest) {
    hopeless.push(
      `${topic}/${partition} ends at ${latest}, and ingest has read up to ${at.offset}. ${createdAnew}`,
    );
  }
  return { ...position, next: at.offset };
}

/** Records of the source that retention deleted in front of ingest. */
async function missingRecords(
  { plan, kafka, ends }: Known,
  partition: number,
  ingest: Ingested | null,
): Promise<Missing[]> {
  const { topic, disorder, maxSkew } = plan.source;
  const earliest = ends.get(topic)?.get(partition)?.earliest ?? 0n;
  if (ingest === null || ingest.next >= earliest) {
    return [];
  }
  // Records are produced in about the order in which they stand in the topic.
  const behind = await firstRecord(kafka, topic, partition, earliest, (_value, _at, time) => time);
  const producedUntil = behind === null ? Date.now() : behind.found;
  return [
    {
      partition,
      branch: 'both',
      kind: 'records',
      from: ingest.next,
      to: earliest,
      origin: ingest.origin,
      epoch: ingest.epoch,
      eventTimes: {
        from: watermark(ingest.highest, disorder),
        to: BigInt(producedUntil + maxSkew) * 1000n,
      },
      resumeAt: earliest,
    },
  ];
}

/** Where reading of a topic goes on, and whether that position is lost. */
function resume(
  ends: Known['ends'],
  topic: string,
  partition: number,
  position: bigint | undefined,
): { from: bigint; latest: bigint; isLost: boolean } {
  const { earliest, latest } = ends.get(topic)?.get(partition) ?? { earliest: 0n, latest: 0n };
  const isLost = position !== undefined && (position < earliest || position > latest);
  return { from: position === undefined || isLost ? earliest : position, latest, isLost };
}

/** Blocks of a branch that are gone in front of its processor. */
async function missingBlocks(
  { plan, kafka, topics, ends, committed }: Known,
  partition: number,
  branch: Branch,
  ingest: Ingested | null,
  hopeless: string[],
): Promise<Missing[]> {
  const topic = topics[branch];
  const at = committed.get(`${branch}-processor`)?.get(partition);
  const position = at === undefined ? null : decodeProcessorPosition(at.metadata);
  if (at !== undefined && position === null) {
    return [];
  }
  const { from, latest, isLost } = resume(ends, topic, partition, at?.offset);
  const first = await firstRecord(kafka, topic, partition, from, (message) => {
    const block = decodeBlock(message);
    const isReplay = judge(position?.next ?? block.origin, block) === 'replay';
    return isReplay && (position === null || block.epoch === position.epoch) ? undefined : block;
  });
  if (first !== null && position !== null && first.found.epoch !== position.epoch) {
    hopeless.push(
      `${topic}/${partition}: ingest has begun anew at source offset ${first.found.from}, and the ${branch}-processor has taken [${first.found.origin}, ${position.next}) before. ${createdAnew}`,
    );
    return [];
  }
  if (first === null && !isLost) {
    return [];
  }
  const origin = first?.found.origin ?? ingest?.origin ?? 0n;
  const next = position?.next ?? origin;
  const to = first?.found.from ?? later(next, ingest?.next);
  if (to < next || (to === next && !isLost)) {
    return [];
  }
  return [
    {
      partition,
      branch,
      kind: 'blocks',
      from: next,
      to,
      origin,
      epoch: position?.epoch ?? first?.found.epoch ?? ingest?.epoch ?? 0n,
      eventTimes: eventTimes(plan, null, first?.found.watermark, ingest),
      resumeAt: first?.offset ?? latest,
    },
  ];
}

/** Partials of a branch that are gone in front of fusion. */
async function missingPartials(
  { plan, kafka, topics, ends, committed, frontiers, positions }: Known,
  partition: number,
  branch: Branch,
  ingest: Ingested | null,
): Promise<Missing[]> {
  const topic = topics.results;
  const frontier = frontiers.find((one) => one.partition === partition && one.branch === branch);
  const { from, isLost } = resume(ends, topic, partition, positions.get(topic)?.get(partition));
  const assembler = new PartialAssembler();
  const first = await firstRecord(kafka, topic, partition, from, (message, offset) => {
    const partial = isTelemetry(message) ? null : assembler.add(message, offset);
    return partial === null ||
      partial.branch !== branch ||
      judge(frontier?.next ?? partial.origin, partial) === 'replay'
      ? undefined
      : partial;
  });
  if (first === null && !isLost) {
    return [];
  }
  const origin = first?.found.origin ?? frontier?.origin ?? ingest?.origin ?? 0n;
  const next = frontier?.next ?? origin;
  const stored = committed.get(`${branch}-processor`)?.get(partition);
  const processed = stored === undefined ? null : decodeProcessorPosition(stored.metadata);
  const to = first?.found.from ?? later(next, processed?.next);
  if (to < next || (to === next && !isLost)) {
    return [];
  }
  return [
    {
      partition,
      branch,
      kind: 'partials',
      from: next,
      to,
      origin,
      epoch: first?.found.epoch ?? ingest?.epoch ?? 0n,
      eventTimes: eventTimes(plan, frontier?.watermark ?? null, first?.found.watermark, ingest),
      resumeAt: isLost ? from : null,
    },
  ];
}

/** Dead letters that are gone in front of fusion: it counts them all the same. */
function missingLetters({ topics, ends, positions }: Known, partition: number): Missing[] {
  const position = positions.get(topics.dead)?.get(partition);
  const { from, isLost } = resume(ends, topics.dead, partition, position);
  return isLost && position !== undefined
    ? [
        {
          partition,
          branch: 'dead',
          kind: 'dead letters',
          from: position,
          to: later(position, from),
          origin: 0n,
          epoch: 0n,
          eventTimes: { from: null, to: null },
          resumeAt: from,
        },
      ]
    : [];
}

/** Nothing that ingest had split by then has a later event time, but for records from clocks that ran ahead. */
function eventTimes(
  { source: { disorder } }: SourcePlan,
  before: bigint | null,
  behind: bigint | null | undefined,
  ingest: Ingested | null,
): Missing['eventTimes'] {
  const highest =
    behind === null || behind === undefined
      ? (ingest?.highest ?? null)
      : behind + BigInt(disorder) * 1000n;
  return { from: before, to: highest };
}

const later = (a: bigint, b: bigint | undefined): bigint => (b !== undefined && b > a ? b : a);
