import { setTimeout as pause } from 'node:timers/promises';
import { connect } from '@anabranch/kafka';
import { makeMessages, sendRecords } from './filled-topic.ts';
import { firstProbe, Orders, type OrdersOptions } from './orders.ts';

/** What the bench tells the process that produces at a rate, as JSON in its only argument. */
export interface PacedOptions {
  readonly brokers: string;
  readonly topic: string;
  readonly partitions: number;
  readonly orders: OrdersOptions;
  /** Records a second. */
  readonly rate: number;
  readonly seconds: number;
  /** Of the first probe among all probes of the topic. */
  readonly firstNumber: number;
}

/** A probe is about to be sent. */
export interface ProbeSent {
  readonly customer: number;
  /** Records that were made in front of it: they say its event time. */
  readonly made: number;
  /** Milliseconds of the clock that all processes share, and since 1970. */
  readonly at: number;
  readonly wall: number;
}

/** The last message. */
export interface PacedEnd {
  readonly recordsPerSecond: number;
  readonly made: number;
}

/** Milliseconds of the machine's monotonic clock, the same in all processes. */
export function monotonic(): number {
  return Number(process.hrtime.bigint()) / 1e6;
}

/** A probe's Kafka key: no other record has one. */
export function probeKey(customer: number): string {
  return String(customer);
}

const quiet = { debug() {}, info() {}, warn() {}, error() {} };
const tickMilliseconds = 10;
const probeMilliseconds = 50;

if (import.meta.main) {
  process.on('disconnect', () => process.exit(0));
  await run(JSON.parse(process.argv[2] ?? '') as PacedOptions);
  process.disconnect();
}

async function run(options: PacedOptions): Promise<void> {
  const kafka = await connect({
    brokers: options.brokers.split(','),
    clientId: 'bench-producer',
    logger: quiet,
  });
  // Probes have a producer of their own: they don't wait behind the others in this process.
  const producers = [kafka.producer(), kafka.producer()] as const;
  const [load, probes] = producers;
  const orders = new Orders(options.orders);
  const begun = monotonic();
  const until = begun + options.seconds * 1000;
  const { topic, partitions, rate } = options;

  const produceLoad = async (): Promise<number> => {
    let sent = 0;
    for (let now = begun; now < until; now = monotonic()) {
      const due = Math.floor(((now - begun) / 1000) * rate) - sent;
      // After a stall, no flood that the rate never had.
      const count = Math.min(due, sendRecords * partitions);
      if (count > 0) {
        await load.send(topic, makeMessages(topic, orders, count, partitions));
        sent += count;
      }
      await pause(Math.max(0, tickMilliseconds - (monotonic() - now)));
    }
    return (sent / (monotonic() - begun)) * 1000;
  };
  const produceProbes = async (): Promise<void> => {
    for (let i = 0; monotonic() < until; i++) {
      const customer = firstProbe + options.firstNumber + i;
      const value = orders.probe(customer);
      const probe: ProbeSent = { customer, made: orders.made, at: monotonic(), wall: Date.now() };
      process.send?.(probe);
      await probes.send(topic, [{ partition: i % partitions, key: probeKey(customer), value }]);
      // Not in step with anything that ticks in the services.
      await pause(probeMilliseconds + (i % 7) * 3);
    }
  };
  const [recordsPerSecond] = await Promise.all([produceLoad(), produceProbes()]);
  await Promise.all(producers.map((producer) => producer.close()));
  await kafka.close();
  process.send?.({ recordsPerSecond, made: orders.made } satisfies PacedEnd);
}
