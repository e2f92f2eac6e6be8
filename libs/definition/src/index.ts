export { DefinitionError, renderProblem, type Problem } from './errors.ts';
export { loadDefinition } from './load.ts';
export type * from './model.ts';
export { type DefinitionText, parseDefinition } from './parse.ts';
export { formatDuration, formatSize } from './quantity.ts';
export { definitionJsonSchema } from './shape.ts';
export { didYouMean } from './suggestion.ts';
export { latencyGoal } from './source.ts';
export { reservedColumns } from './table.ts';
