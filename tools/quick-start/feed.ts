import { readFileSync } from 'node:fs';
import { setTimeout as pause } from 'node:timers/promises';
import type { PlainMessage, Producer } from '@anabranch/kafka';

/** The rows of one of the example's files as Kafka messages; rows of a region keep their order. */
export function readMessages(file: URL, headers?: Record<string, string>): PlainMessage[] {
  const [, ...lines] = readFileSync(file, 'utf8').trimEnd().split('\n');
  return lines.map((line) => {
    const [column1, column2, region = '', time = ''] = line.split(',');
    return {
      key: region,
      value: JSON.stringify({
        column1: column1 || null,
        column2: column2 || null,
        region,
        event_time: Date.parse(time),
      }),
      ...(headers && { headers }),
    };
  });
}

/** An event this far behind the newest one before it is late by the example's split rule. */
const lateMilliseconds = 125_000;
const stragglers = 10;

/**
 * Parts the last few late events from the others: they arrive when everything else is final, so that
 * a correction is to be seen whenever the batch runs happen to fall.
 */
export function partStragglers(messages: readonly PlainMessage[]): {
  live: PlainMessage[];
  late: PlainMessage[];
} {
  let newest = 0;
  const isLate = messages.map(({ value }) => {
    const time = (JSON.parse(String(value)) as { event_time: number }).event_time;
    newest = Math.max(newest, time);
    return time < newest - lateMilliseconds;
  });
  const late = messages.filter((_, i) => isLate[i]).slice(-stragglers);
  return { live: messages.filter((message) => !late.includes(message)), late };
}

const batchSize = 500;

/** As fast as the broker takes them. */
export async function sendAll(
  producer: Producer,
  topic: string,
  messages: readonly PlainMessage[],
  onProgress: (sent: number) => void,
): Promise<void> {
  for (let sent = 0; sent < messages.length; sent += batchSize) {
    await producer.send(topic, messages.slice(sent, sent + batchSize));
    onProgress(Math.min(sent + batchSize, messages.length));
  }
}

const ticksPerSecond = 20;

/** Evenly over some seconds, as live events come. */
export async function sendLive(
  producer: Producer,
  topic: string,
  messages: readonly PlainMessage[],
  seconds: number,
  onProgress: (sent: number) => void,
  signal: AbortSignal,
): Promise<void> {
  const begun = performance.now();
  for (let sent = 0; sent < messages.length;) {
    const due = Math.min(
      messages.length,
      Math.ceil(((performance.now() - begun) / 1000 / seconds) * messages.length),
    );
    if (due > sent) {
      await producer.send(topic, messages.slice(sent, due));
      sent = due;
      onProgress(sent);
    }
    await pause(1000 / ticksPerSecond, undefined, { signal });
  }
}
