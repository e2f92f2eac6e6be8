/** A block or partial: which source offsets it has, and when its message was made, in milliseconds since 1970. */
export interface WrittenRange {
  readonly partition: number;
  readonly from: bigint;
  readonly to: bigint;
  readonly writtenAt: number;
}

/** Milliseconds from one hop to the next. */
export interface HopTimes {
  /** From produce until ingest has written the record's block: decoded and split, not yet committed. */
  readonly ingest: number;
  /** From there until the processor has written the partial: ingest's commit, gathering, computing. */
  readonly processor: number;
  /** From there until a query shows it: the processor's commit, and fusion's merge and commit. */
  readonly fusion: number;
}

/** The block or partial that has an offset. */
export function blockOf(
  ranges: readonly WrittenRange[],
  partition: number,
  offset: bigint,
): WrittenRange | undefined {
  return ranges.find(
    (range) => range.partition === partition && range.from <= offset && offset < range.to,
  );
}

/** @param producedAt and `seenAt` milliseconds since 1970 */
export function hopsOf(
  producedAt: number,
  block: WrittenRange,
  partial: WrittenRange,
  seenAt: number,
): HopTimes {
  return {
    ingest: block.writtenAt - producedAt,
    processor: partial.writtenAt - block.writtenAt,
    fusion: seenAt - partial.writtenAt,
  };
}
