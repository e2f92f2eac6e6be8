/**
 * The small state that a service commits with its offsets, as the metadata of the committed offset:
 * it moves with them in one transaction, so a restarted service decides as the former one did.
 */
export interface IngestPosition {
  /** First source offset that was ever taken of the partition. */
  readonly origin: bigint;
  /** Largest event time seen, clamped, in microseconds; null: none so far. */
  readonly highest: bigint | null;
  /** Rules that divert hold for the records from here on: decided once a step, for the next one. */
  readonly diverting: boolean;
  /** The epoch of its blocks. */
  readonly epoch: bigint;
}

export interface ProcessorPosition {
  /** First source offset that no block has accounted for. */
  readonly next: bigint;
  /** Of the blocks in front of it. */
  readonly epoch: bigint;
}

export function encodeIngestPosition({
  epoch,
  origin,
  highest,
  diverting,
}: IngestPosition): string {
  return `${epochText(epoch)}origin=${origin} highest=${highest ?? 'none'}${diverting ? ' diverting' : ''}`;
}

export function encodeProcessorPosition({ next, epoch }: ProcessorPosition): string {
  return `${epochText(epoch)}next=${next}`;
}

const epochText = (epoch: bigint): string => (epoch === 0n ? '' : `epoch=${epoch} `);

/** What was learnt of costs, behind a position: it isn't needed to go on. */
const costSuffix = / by=(\S*) cost=(\S*)$/;

/**
 * Adds what an instance has learnt of its costs to a position, so that it survives with it.
 * @param cost without a space; null: nothing was learnt yet
 */
export function withCost(position: string, instance: string, cost: string | null): string {
  return cost === null ? position : `${position} by=${encodeURIComponent(instance)} cost=${cost}`;
}

/** What `withCost` added; null where nothing was. */
export function costIn(metadata: string): { readonly by: string; readonly cost: string } | null {
  const [, by, cost] = costSuffix.exec(metadata) ?? [];
  return by === undefined || cost === undefined ? null : { by, cost };
}

/** null when the metadata isn't of this form: someone else committed the offset. */
export function decodeIngestPosition(metadata: string): IngestPosition | null {
  const match = /^(?:epoch=(\d+) )?origin=(\d+) highest=(none|-?\d+)( diverting)?$/.exec(
    metadata.replace(costSuffix, ''),
  );
  const [, epoch = '0', origin, highest, diverting] = match ?? [];
  if (origin === undefined || highest === undefined) {
    return null;
  }
  return {
    epoch: BigInt(epoch),
    origin: BigInt(origin),
    highest: highest === 'none' ? null : BigInt(highest),
    diverting: diverting !== undefined,
  };
}

export function decodeProcessorPosition(metadata: string): ProcessorPosition | null {
  const [, epoch = '0', next] =
    /^(?:epoch=(\d+) )?next=(\d+)$/.exec(metadata.replace(costSuffix, '')) ?? [];
  return next === undefined ? null : { epoch: BigInt(epoch), next: BigInt(next) };
}
