export { createDatabase, dropDatabase } from './databases.ts';
export { ServersError, type ServersErrorCode } from './errors.ts';
export { freePort } from './free-port.ts';
export { type KafkaOptions, type LocalKafka, startKafka } from './kafka.ts';
export { type MavenJars, mavenJars } from './kafka-jars.ts';
export { cacheDirectory, findJava, type Java } from './local-tools.ts';
export type { KafkaSecurity } from './kafka-security.ts';
export { type LocalPostgres, type PostgresOptions, startPostgres } from './postgres.ts';
export type { ServerOptions } from './server-options.ts';
export { type Servers, type ServersOptions, startServers } from './servers.ts';
export {
  type LogLine,
  type Readiness,
  type ServiceName,
  serviceNames,
  ServiceProcess,
  type ServiceProcessOptions,
} from './service-process.ts';
