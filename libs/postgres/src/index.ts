export {
  errorCode,
  isCollision,
  isRetriable,
  isUnavailable,
  PostgresError,
  type PostgresErrorCode,
  refusalReason,
} from './errors.ts';
export { migrate } from './migrate.ts';
export { checkServer, openPool, type PoolOptions, type PostgresTls } from './pool.ts';
export { checkPrivileges, namingPrivileges } from './privileges.ts';
export {
  acceptedKind,
  acceptedLoss,
  type Loss,
  movePosition,
  recordLoss,
  settleGap,
} from './sql/accept-loss.ts';
export { advanceFinalWatermark } from './sql/advance-final-watermark.ts';
export { type Advance, advanceFrontier } from './sql/advance-frontier.ts';
export { type Claimed, claimFrontier } from './sql/claim-frontier.ts';
export { copyRows } from './sql/copy-rows.ts';
export { countRecords, type TableCount } from './sql/count-records.ts';
export { isLate, lockFinalWatermark } from './sql/final-watermark.ts';
export { mergeUpsert } from './sql/merge-upsert.ts';
export { correctWindow, mergeWindow } from './sql/merge-window.ts';
export { type Position, readPositions, writePositions } from './sql/positions.ts';
export { type FrontierRow, readFrontier } from './sql/read-frontier.ts';
export { type Conflict, recordConflict } from './sql/record-conflict.ts';
export { type CoveredRun, recordRuns } from './sql/record-runs.ts';
export { setPartitions } from './sql/set-partitions.ts';
export { storeDeadLetters } from './sql/store-dead-letters.ts';
export { storeTelemetry } from './sql/store-telemetry.ts';
export {
  createStaging,
  createTables,
  isWindow,
  stagingTable,
  stateTable,
  type WindowPlan,
} from './tables.ts';
export { timestamp } from './timestamp.ts';
export { transaction } from './transaction.ts';
