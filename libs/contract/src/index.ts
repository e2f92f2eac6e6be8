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
  type StepCost,
  type TablePart,
} from './partial.ts';
export {
  decodeIngestPosition,
  decodeProcessorPosition,
  encodeIngestPosition,
  encodeProcessorPosition,
  type IngestPosition,
  type ProcessorPosition,
} from './position.ts';
export { restoreValue } from './restore.ts';
export { stepCost } from './step-cost.ts';
export { type InternalTopics, internalTopics, internalTopicSettings } from './topics.ts';
