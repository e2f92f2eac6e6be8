export { Admin } from './admin.ts';
export type {
  CommittedOffset,
  PartitionOffsets,
  TopicDescription,
  TopicSettings,
} from './admin.ts';
export { codecs, type Codec } from './compression.ts';
export { HaltPartition, KafkaError, type KafkaErrorCode } from './errors.ts';
export { connect, Kafka } from './kafka.ts';
export type { Logger } from './logger.ts';
export type { PartitionWork } from './partition-queue.ts';
export type { KafkaConfig } from './patched-kafkajs.ts';
export { type PlainMessage, Producer } from './producer.ts';
export type { TailVisitor, TopicVisitor } from './read-topic.ts';
export {
  copyRecord,
  type Header,
  type HeaderVisitor,
  type KafkaRecord,
  readHeaders,
  recordAt,
  type RecordVisitor,
  visitHeaders,
  walk,
  type WalkOptions,
} from './record-batch.ts';
export type { OutgoingMessage, SendLimits } from './sends.ts';
export {
  type AssignedContext,
  type AssignedPartition,
  type HaltedPartition,
  type LostRange,
  type PartitionState,
  type StartOffset,
  type StepContext,
  type StepLimits,
  StepLoop,
  type StepLoopOptions,
  type StepLoopState,
  type StepResult,
} from './step-loop.ts';
export {
  type GroupMembership,
  type ProcessedOffset,
  Transaction,
  TransactionalProducer,
  type TransactionalProducerOptions,
} from './transactional-producer.ts';
