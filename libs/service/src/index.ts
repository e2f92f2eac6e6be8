export { readConfig } from './config.ts';
export type { Environment, SettingsOf } from './config.ts';
export { CostAccount } from './cost-account.ts';
export type { CostAccountOptions } from './cost-account.ts';
export { createMetrics } from './create-metrics.ts';
export type { Metrics, MetricsPage } from './create-metrics.ts';
export { ConfigError, ServiceError } from './errors.ts';
export type { ServiceErrorCode } from './errors.ts';
export { exitCodes } from './exit-codes.ts';
export type { ExitCode } from './exit-codes.ts';
export { kafkaExitCode } from './kafka-exit-code.ts';
export { launchService } from './launch-service.ts';
export type { LaunchedService, ServiceContext, ServiceOptions } from './launch-service.ts';
export type { Health, RunningService } from './lifecycle.ts';
export { Log } from './log.ts';
export type { LogFields, LogLevel } from './log.ts';
export { metricTable, stages } from './metrics.ts';
export type { MetricRow, Stage } from './metrics.ts';
export { hideCredentials, messageOf, printable } from './printable.ts';
export { runService } from './run-service.ts';
export {
  addresses,
  certificate,
  choice,
  commonSettings,
  decimal,
  flag,
  integer,
  kafkaConnection,
  memory,
  secret,
  setting,
  settings,
  text,
} from './settings.ts';
export type { CommonConfig, KafkaConnection, SettingValues } from './settings.ts';
export { SourceLoops } from './source-loops.ts';
export { StageClock } from './stage-clock.ts';
export type { StageCost } from './stage-clock.ts';
export { tlsFaults, tlsOptions } from './tls-settings.ts';
export type { TlsOptions } from './tls-settings.ts';
export { parseTraceparent, readTraceparent, traceHeader } from './trace-context.ts';
export type { SpanContext } from './trace-context.ts';
export { mostLinks, rangeAttributes, StepSpans, Tracer } from './tracer.ts';
export { waitFor } from './wait-for.ts';
export type { WaitOptions } from './wait-for.ts';
