/**
 * The small state that a service commits with its offsets, as the metadata of the committed offset:
 * it moves with them in one transaction, so a restarted service decides as the former one did.
 */
export interface IngestPosition {
  /** First source offset that was ever taken of the partition. */
  readonly origin: bigint;
  /** Largest event time seen, clamped, in microseconds; null: none so far. */
  readonly highest: bigint | null;
}

export interface ProcessorPosition {
  /** First source offset that no block has accounted for. */
  readonly next: bigint;
}

export function encodeIngestPosition({ origin, highest }: IngestPosition): string {
  return `origin=${origin} highest=${highest ?? 'none'}`;
}

export function encodeProcessorPosition({ next }: ProcessorPosition): string {
  return `next=${next}`;
}

/** null when the metadata isn't of this form: someone else committed the offset. */
export function decodeIngestPosition(metadata: string): IngestPosition | null {
  const match = /^origin=(\d+) highest=(none|-?\d+)$/.exec(metadata);
  const [, origin, highest] = match ?? [];
  if (origin === undefined || highest === undefined) {
    return null;
  }
  return { origin: BigInt(origin), highest: highest === 'none' ? null : BigInt(highest) };
}

export function decodeProcessorPosition(metadata: string): ProcessorPosition | null {
  const next = /^next=(\d+)$/.exec(metadata)?.[1];
  return next === undefined ? null : { next: BigInt(next) };
}
