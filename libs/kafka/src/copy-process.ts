import { createInterface } from 'node:readline';
import { connect } from './kafka.ts';
import type { StepResult } from './step-loop.ts';
import { copyTo, loopOptions } from './step-fixtures.ts';

/**
 * A process for tests to kill and to stop: copies one topic to another, exactly once. Says `step` at
 * each step that has work. With `hold` it stays inside of its first one until it reads a line.
 */
const [brokers, groupId, source, target, instance, hold] = process.argv.slice(2) as [
  string,
  string,
  string,
  string,
  string,
  string?,
];
const say = (text: string): void => void process.stdout.write(`${text}\n`);
const logger = {
  debug: (): void => {},
  info: (): void => {},
  warn: (message: string, fields?: object): void =>
    say(`warn ${message} ${JSON.stringify(fields)}`),
  error: (message: string, fields?: object): void =>
    say(`error ${message} ${JSON.stringify(fields)}`),
};
const lines = createInterface({ input: process.stdin });
const kafka = await connect({ brokers: brokers.split(','), clientId: 'copy', logger });
const copy = copyTo(target);
let held = hold === 'hold';
kafka
  .stepLoop(
    loopOptions({
      groupId,
      instance,
      topics: [source],
      sessionTimeout: 6_000,
      limits: {
        stepBytes: 20_000,
        stepMilliseconds: 5,
        queueHighBytes: 1_000_000,
        queueLowBytes: 100_000,
      },
      async step(work): Promise<StepResult | null> {
        if (work.length === 0) {
          return null;
        }
        say(
          `step ${work.map(({ partition, from, next }) => `${partition}:${from}-${next}`).join(' ')}`,
        );
        if (held) {
          held = false;
          await new Promise((resolve) => lines.once('line', resolve));
          say('released');
        }
        return copy(work);
      },
      onFatal(error) {
        say(`fatal ${error.message}`);
        process.exitCode = 1;
      },
    }),
  )
  .start();
