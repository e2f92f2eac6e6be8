export { CoverageError, type CoverageErrorCode } from './errors.ts';
export { Frontier } from './frontier.ts';
export { judge, type Verdict } from './merge-law.ts';
export { formatRange, join, type Range } from './range.ts';
export { ceiling, highestWhenIdle, later, watermark } from './watermark.ts';
