export type KafkaErrorCode =
  /** node_modules holds kafkajs without our patch. */
  | 'NOT_PATCHED'
  /** A record batch's checksum or structure is wrong. */
  | 'CORRUPT_BATCH'
  /** A record batch in a message format from before Kafka 0.11, or in an unknown compression. */
  | 'UNSUPPORTED_FORMAT'
  /** A record batch decompresses to more than the limit. */
  | 'BATCH_TOO_LARGE'
  /** A topic exists with other settings than it must have. */
  | 'TOPIC_MISMATCH'
  /** A topic doesn't exist. */
  | 'TOPIC_MISSING'
  /** The broker acknowledged less than was sent. */
  | 'SEND_INCOMPLETE'
  /** A message is larger than its topic allows. */
  | 'MESSAGE_TOO_LARGE'
  /** Offsets that were to be read next don't exist any more, or not yet. */
  | 'RANGE_LOST'
  /** Another process has our name: our place in the group, or our transactional id. */
  | 'FENCED'
  /** The brokers refuse us: authentication, authorization, protocol version. */
  | 'REFUSED'
  /** The same step failed again and again. */
  | 'GIVING_UP'
  /** A wait was ended by its signal. */
  | 'STOPPED';

export interface KafkaErrorContext {
  readonly topic?: string;
  readonly partition?: number;
  readonly offset?: bigint;
  readonly cause?: unknown;
}

export class KafkaError extends Error {
  readonly code: KafkaErrorCode;
  readonly topic: string | undefined;
  readonly partition: number | undefined;
  readonly offset: bigint | undefined;

  constructor(code: KafkaErrorCode, message: string, context: KafkaErrorContext = {}) {
    super(message, { cause: context.cause });
    this.name = 'KafkaError';
    this.code = code;
    this.topic = context.topic;
    this.partition = context.partition;
    this.offset = context.offset;
  }
}

/**
 * Thrown by a step that can't go on with one partition: the step loop stops reading that partition,
 * reports it, and goes on with the others.
 */
export class HaltPartition extends Error {
  readonly topic: string;
  readonly partition: number;

  constructor(topic: string, partition: number, reason: string, options?: { cause: unknown }) {
    super(reason, options);
    this.name = 'HaltPartition';
    this.topic = topic;
    this.partition = partition;
  }
}
