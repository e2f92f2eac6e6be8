import { KafkaError } from '@anabranch/kafka';
import { type ExitCode, exitCodes } from './exit-codes.ts';

/** The exit code of what Kafka does to a service for good; undefined: it says nothing special. */
export function kafkaExitCode(error: unknown): ExitCode | undefined {
  if (!(error instanceof KafkaError)) {
    return undefined;
  }
  switch (error.code) {
    case 'FENCED':
      return exitCodes.fenced;
    case 'REFUSED':
    case 'TOPIC_MISMATCH':
      return exitCodes.unavailable;
    default:
      return undefined;
  }
}
