export { Classifier, type Classified, type RecordBlock } from './classifier.ts';
export { compile, loadPlan } from './compile.ts';
export type { EngineOptions } from './engine.ts';
export { ComputeError, type ComputeErrorCode } from './errors.ts';
export type { Plan, ResultColumn, SourcePlan, StateColumn, TablePlan } from './plan.ts';
export {
  type FailedRecord,
  type Processed,
  type ProcessedTable,
  Processor,
  type Seconds,
  type TextBlock,
} from './processor.ts';
