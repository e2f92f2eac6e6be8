export { BlockIntake, type TakenBlocks } from './block-intake.ts';
export { BlockReader, blockReader, coverageOf } from './block-reader.ts';
export { type PartialOptions, partialMessages } from './partials.ts';
export { type PartitionBlocks, roundsOf } from './rounds.ts';
