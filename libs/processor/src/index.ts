export { BlockIntake, type TakenBlock, type TakenBlocks } from './block-intake.ts';
export { BlockReader, blockReader, coverageOf } from './block-reader.ts';
export { openSpans } from './open-spans.ts';
export {
  countFates,
  type Message,
  noneProcessed,
  partialMessages,
  type PartialOptions,
  tableCosts,
} from './partials.ts';
export {
  type AlteredBlock,
  joinStretches,
  roundsOf,
  type Stretch,
  stretchesOf,
  type TextStretch,
} from './stretch.ts';
