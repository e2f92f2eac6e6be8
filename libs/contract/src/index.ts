export {
  type Altered,
  type Block,
  countRecords,
  type Coverage,
  decodeBlock,
  encodeBlock,
  type Run,
  type SplitCounts,
} from './block.ts';
export {
  type DeadLetter,
  type DeadLetters,
  decodeDeadLetters,
  encodeDeadLetters,
} from './dead-letters.ts';
export { ContractError, type ContractErrorCode } from './errors.ts';
export {
  type Branch,
  encodePartial,
  type Partial,
  PartialAssembler,
  type RunShare,
  type TablePart,
} from './partial.ts';
export {
  costIn,
  decodeIngestPosition,
  decodeProcessorPosition,
  encodeIngestPosition,
  encodeProcessorPosition,
  type IngestPosition,
  type ProcessorPosition,
  withCost,
} from './position.ts';
export { restoreValue } from './restore.ts';
export {
  type CostModel,
  type Decision,
  decodeTelemetry,
  encodeTelemetry,
  isTelemetry,
  type PredictionErrors,
  type StepCost,
  type TableCost,
  type Telemetry,
} from './telemetry.ts';
export { type InternalTopics, internalTopics, internalTopicSettings } from './topics.ts';
