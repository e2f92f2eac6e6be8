import { DefinitionError } from '@anabranch/definition';
import { errorCode } from '@anabranch/postgres';
import { type ExitCode, exitCodes, kafkaExitCode, runService } from '@anabranch/service';
import { config } from './config.ts';
import { start } from './start.ts';

await runService({
  name: 'fusion',
  version: '0.1.0',
  config,
  env: process.env,
  start,
  exitCodeOf: (error) =>
    error instanceof DefinitionError
      ? exitCodes.definition
      : (kafkaExitCode(error) ?? postgresExitCode(error)),
});

/** By SQLSTATE, or the code of a PostgresError. */
function postgresExitCode(error: unknown): ExitCode | undefined {
  const code = errorCode(error) ?? '';
  if (code === 'TABLE_CHANGED' || code === 'NAME_TAKEN') {
    return exitCodes.definition;
  }
  // Class 28: wrong user or password; 3D: no such database; 42501: no right to do it.
  return /^(28|3D|42501|TOO_OLD|NOT_PERMITTED|MIGRATION_)/.test(code)
    ? exitCodes.unavailable
    : undefined;
}
