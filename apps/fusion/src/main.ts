import { DefinitionError } from '@anabranch/definition';
import { errorCode } from '@anabranch/postgres';
import { type ExitCode, exitCodes, kafkaExitCode, runService } from '@anabranch/service';
import { runAcceptLoss } from './accept-loss/command.ts';
import { config } from './config.ts';
import { runMigrate } from './migrate-command.ts';
import { start } from './start.ts';

const [command, ...args] = process.argv.slice(2);
if (command === 'accept-loss') {
  process.exitCode = await runAcceptLoss(args, process.env, console.log, exitCodeOf);
} else if (command === 'migrate') {
  process.exitCode = await runMigrate(process.env, console.log, exitCodeOf);
} else {
  await runService({
    name: 'fusion',
    version: '0.1.0',
    config,
    env: process.env,
    start,
    exitCodeOf,
  });
}

function exitCodeOf(error: unknown): ExitCode | undefined {
  return error instanceof DefinitionError
    ? exitCodes.definition
    : (kafkaExitCode(error) ?? postgresExitCode(error));
}

/** By SQLSTATE, or the code of a PostgresError. */
function postgresExitCode(error: unknown): ExitCode | undefined {
  const code = errorCode(error) ?? '';
  if (code === 'TABLE_CHANGED' || code === 'NAME_TAKEN') {
    return exitCodes.definition;
  }
  // Class 28: wrong user or password; 3D: no such database; 42501: no right to do it.
  return /^(28|3D|42501|TOO_OLD|NOT_PERMITTED|NOT_TRUSTED|MIGRATION_)/.test(code)
    ? exitCodes.unavailable
    : undefined;
}
