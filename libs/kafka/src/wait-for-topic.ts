import type { Admin } from './admin.ts';
import { backOff, wait } from './back-off.ts';
import { causes, errorKind, errorName } from './error-kind.ts';
import { KafkaError } from './errors.ts';
import type { KafkaConfig } from './patched-kafkajs.ts';
import { refused } from './refusal.ts';

/**
 * The topic's number of partitions, once it exists. `onWaiting` is called once if that takes a wait.
 *
 * @throws KafkaError STOPPED, REFUSED
 */
export async function waitForTopic(
  admin: Admin,
  config: KafkaConfig,
  name: string,
  onWaiting: () => void,
  signal: AbortSignal | undefined,
): Promise<number> {
  let waiting = false;
  for (let attempt = 0, away = 0; ; attempt++) {
    try {
      const topic = await admin.describeTopic(name, 'Read');
      if (topic) {
        return topic.partitions;
      }
      away = 0;
      if (!waiting) {
        waiting = true;
        onWaiting();
      }
    } catch (error) {
      reportAway(config, error, away++);
    }
    await wait(backOff(attempt, 100, 2_000), signal);
  }
}

/** They say no more than that they close the connection. */
const closedAdvice =
  'brokers that want TLS or a login, or another one, end the connection: check KAFKA_SSL and KAFKA_SASL_MECHANISM';

/**
 * Logs that the brokers don't answer.
 *
 * @throws KafkaError what waiting can't cure
 */
export function reportAway(config: KafkaConfig, error: unknown, attempt: number): void {
  if (error instanceof KafkaError) {
    throw error;
  }
  if (errorKind(error) === 'refused') {
    throw refused(config, error);
  }
  // At attempts 0, 1, 3, 7, 15 …: enough to see, not enough to fill a disk.
  if ((attempt & (attempt + 1)) === 0) {
    const { brokers, logger } = config;
    const reason = causes(error).at(-1)?.message;
    const closed = errorName(error) === 'KafkaJSConnectionClosedError';
    logger.warn('waiting for Kafka', {
      brokers,
      attempt,
      error: errorName(error),
      reason,
      ...(closed && { advice: closedAdvice }),
    });
  }
}
