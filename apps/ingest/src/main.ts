import { DefinitionError } from '@anabranch/definition';
import { exitCodes, kafkaExitCode, runService } from '@anabranch/service';
import { config } from './config.ts';
import { start } from './start.ts';

await runService({
  name: 'ingest',
  version: '0.1.0',
  config,
  env: process.env,
  start,
  exitCodeOf: (error) =>
    error instanceof DefinitionError ? exitCodes.definition : kafkaExitCode(error),
});
