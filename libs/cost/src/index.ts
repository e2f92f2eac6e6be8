export { Fit, type FitState } from './fit.ts';
export {
  fullLoad,
  latestStart,
  type MicroBatch,
  microBatch,
  shouldDivert,
  sustained,
} from './plan.ts';
export {
  fusionUnits,
  ingestUnits,
  processorUnits,
  type Stage,
  type StageSeconds,
  type StageSpeed,
  StepModel,
  type StepSize,
  stages,
  type StageUnits,
  total,
  type Unit,
} from './step-model.ts';
export { errorBound } from './prediction-error.ts';
export { Rate } from './rate.ts';
