import { internalTopics } from '@anabranch/contract';
import type { ServiceProcess } from '@anabranch/servers';
import { expect, inject, test } from 'vitest';
import { type Chain, openChain, partitionsIn } from './chain.ts';
import { eventsDefinition } from './events.ts';
import { expectEvents } from './events-oracle.ts';
import { Load } from './load.ts';
import { endsOf } from './partition-ends.ts';

const partitions = 4;
const env = { SESSION_SECONDS: '6', SLICE_BYTES: '1048576' };

/**
 * Stops an instance inside a transaction: again and again, until it happens to be in one.
 * @param isInside looks at the stopped instance from outside
 * @param isLikely tells a good moment to try
 */
async function stopInside(
  chain: Chain,
  service: ServiceProcess,
  isInside: () => Promise<boolean>,
  isLikely: () => Promise<boolean>,
): Promise<void> {
  await chain.eventually(`${service.service} to be stopped inside a step`, async () => {
    if (!(await isLikely())) {
      return undefined;
    }
    service.pause();
    if (await isInside()) {
      return true;
    }
    service.resume();
    return undefined;
  });
}

/** Waits a moment for a transaction to have written to the topic. */
async function isWritten(topic: string): Promise<boolean> {
  for (let look = 0; look < 100; look++) {
    const ends = await endsOf(inject('kafkaBrokers'), topic, partitions);
    if (ends.some(({ all, committed }) => committed < all)) {
      return true;
    }
  }
  return false;
}

/** How often to look whether a transaction stays open: those of running instances end meanwhile. */
const looks = 8;

/** Whether some partition of the topic is held back by one transaction that doesn't end. */
async function isHeldBack(chain: Chain, topic: string): Promise<boolean> {
  let held: Map<number, bigint> | undefined;
  for (let look = 0; look < looks; look++) {
    const ends = await endsOf(inject('kafkaBrokers'), topic, partitions);
    const now = new Map(
      ends.flatMap(({ all, committed }, partition) =>
        committed < all ? [[partition, committed] as const] : [],
      ),
    );
    held = new Map([...(held ?? now)].filter(([partition, end]) => now.get(partition) === end));
    if (held.size === 0) {
      return false;
    }
    await chain.query('SELECT pg_sleep(0.05)');
  }
  return true;
}

/** Waits until the other instance has all partitions. */
async function moved(chain: Chain, to: ServiceProcess, all: number): Promise<void> {
  let last: unknown;
  await chain.eventually(
    `the partitions of ${to.service} to move to ${to.instance}`,
    async () => {
      const { details } = await to.readiness();
      last = details;
      return partitionsIn(details, chain.source) === all ? true : undefined;
    },
    () => JSON.stringify(last),
  );
}

async function expectUnharmed(chain: Chain, load: Load): Promise<void> {
  await load.progress('stream');
  await load.progress('batch');
  await load.end();
  await chain.settled();
  await expectEvents(chain);
}

test.each([
  { service: 'ingest', topic: 'stream' },
  { service: 'stream-processor', topic: 'results' },
  { service: 'batch-processor', topic: 'results' },
] as const)(
  'an instance of $service that sleeps inside a step until its partitions have moved is refused, and changes nothing',
  async ({ service, topic }) => {
    const chain = await openChain({ define: eventsDefinition, partitions, env });
    const services = chain.startAll();
    const zombie = services[service];
    const load = new Load(chain, 6);
    await load.progress('stream');
    const written = internalTopics(chain.topic)[topic];
    await stopInside(
      chain,
      zombie,
      () => isHeldBack(chain, written),
      () => isWritten(written),
    );
    const successor = chain.start(service, 'b');
    await moved(chain, successor, partitions);
    zombie.resume();
    await chain.eventually('the zombie to begin anew', async () => {
      const rebuilds = /^anabranch_rebuilds_total(?:{.*})? (\d+)$/m.exec(await zombie.metrics());
      return Number(rebuilds?.[1] ?? 0) > 0 ? true : undefined;
    });
    await expectUnharmed(chain, load);
  },
);

test.each([
  { where: 'between two statements', session: `state = 'idle in transaction'` },
  // No timeout of Postgres ends a session that waits for the rest of a COPY.
  { where: 'in the midst of a COPY', session: `state = 'active' AND wait_event = 'ClientRead'` },
])(
  'an instance of fusion that sleeps $where until its partitions have moved is refused, and changes nothing',
  async ({ session }) => {
    const chain = await openChain({ define: eventsDefinition, partitions, env });
    const { fusion } = chain.startAll();
    const load = new Load(chain, 7);
    await load.progress('stream');
    const isInside = async (): Promise<boolean> => {
      const sessions = await chain.query<{ pid: number }>(`
      SELECT pid FROM pg_stat_activity
      WHERE datname = current_database() AND application_name = 'anabranch.fusion.a' AND ${session}`);
      return sessions.length > 0;
    };
    await stopInside(chain, fusion, isInside, () => Promise.resolve(true));
    const successor = chain.start('fusion', 'b');
    // Both of the topics that fusion reads.
    await moved(chain, successor, 2 * partitions);
    await load.progress('stream');
    fusion.resume();
    // Its successor has gone on, so what it was about to commit must be refused.
    const refused = /^anabranch_transactions_total{outcome="(?:aborted|unknown)"} ([1-9])/m;
    await chain.eventually("the zombie's transaction to be refused", async () =>
      refused.test(await fusion.metrics()) ? true : undefined,
    );
    await expectUnharmed(chain, load);
    expect(fusion.isRunning).toBe(true);
  },
);
