import { connect, KafkaError, type StepLoopOptions } from '@anabranch/kafka';
import { beforeEach, expect, it, vi } from 'vitest';
import { createMetrics } from './create-metrics.ts';
import type { ServiceContext } from './launch-service.ts';
import { Log } from './log.ts';
import type { CommonConfig } from './settings.ts';
import { type SourceLoopOptions, SourceLoops } from './source-loops.ts';

vi.mock(import('@anabranch/kafka'), async (original) => ({
  ...(await original()),
  connect: vi.fn<typeof connect>(),
}));

/** A loop that does what a test says. */
interface FakeLoop {
  readonly options: StepLoopOptions;
  joined: boolean;
  stopped: boolean;
}

const loops = new Map<string, FakeLoop>();
const fatal: unknown[] = [];
const logged: string[] = [];
const metrics = createMetrics('ingest', '0');

beforeEach(() => {
  loops.clear();
  fatal.length = 0;
  logged.length = 0;
  const kafka = {
    stepLoop: (options: StepLoopOptions) => {
      const loop: FakeLoop = { options, joined: false, stopped: false };
      loops.set(options.groupId.replace('anabranch.ingest.', ''), loop);
      return {
        start: () => undefined,
        stop: () => Promise.resolve((loop.stopped = true)),
        state: () => ({
          joined: loop.joined,
          generation: 1,
          partitions: [],
          halted: [],
          lastError: null,
          rebuilds: 0,
          transactions: 0,
        }),
      };
    },
    close: () => Promise.resolve(),
  };
  vi.mocked(connect).mockResolvedValue(kafka as never);
});

async function opened(...sources: string[]): Promise<SourceLoops> {
  const context = {
    config: { INSTANCE: 'a', SESSION_SECONDS: 30, KAFKA_BROKERS: ['kafka:9092'], KAFKA_SSL: false },
    log: new Log({ service: 'ingest', instance: 'a', write: (line) => logged.push(line) }),
    metrics,
    signal: new AbortController().signal,
    fatal: (error: unknown) => fatal.push(error),
  } as unknown as ServiceContext<CommonConfig>;
  const opening = await SourceLoops.open('ingest', context, sources.length);
  for (const source of sources) {
    opening.start(source, {} as SourceLoopOptions);
  }
  return opening;
}

function loopOf(source: string): FakeLoop {
  const loop = loops.get(source);
  if (loop === undefined) {
    throw new Error(`There is no loop of ${source}.`);
  }
  return loop;
}

const givingUp = (text: string): KafkaError => new KafkaError('GIVING_UP', text);

it('keeps the other sources when one gives up, and says which and why', async () => {
  const running = await opened('orders', 'visits');
  loopOf('orders').joined = true;
  loopOf('visits').joined = true;
  expect(running.ready().ok).toBe(true);
  loopOf('orders').joined = false;
  loopOf('orders').options.onFatal(givingUp('the same fault'));
  expect(fatal).toEqual([]);
  expect(running.ready()).toMatchObject({
    ok: false,
    details: { orders: { stopped: 'the same fault' }, visits: { joined: true } },
  });
  // A restart would stop the other one too.
  expect(running.live()).toEqual({ ok: true, details: { orders: 'the same fault' } });
  expect(await metrics.page.text()).toContain('anabranch_stopped_sources 1');
  expect(logged.join('')).toContain('"source":"orders"');
});

it('ends the process once all sources have given up', async () => {
  const running = await opened('orders', 'visits');
  loopOf('orders').options.onFatal(givingUp('one'));
  loopOf('visits').options.onFatal(givingUp('two'));
  expect(fatal).toMatchObject([{ message: 'two' }]);
  expect(running.live().ok).toBe(false);
});

it('ends the process at once where there is one source, and not before all have been started', async () => {
  await opened('orders');
  loopOf('orders').options.onFatal(givingUp('one'));
  expect(fatal).toHaveLength(1);
  fatal.length = 0;
  const running = await opened('orders', 'visits');
  loopOf('orders').options.onFatal(givingUp('one'));
  expect(fatal).toEqual([]);
  await running.stop(0);
  expect([...loops.values()].map(({ stopped }) => stopped)).toEqual([true, true]);
});

it('ends the process at once when another one has its name', async () => {
  await opened('orders', 'visits');
  loopOf('orders').options.onFatal(new KafkaError('FENCED', 'taken'));
  expect(fatal).toMatchObject([{ code: 'FENCED' }]);
});

it('is ready while a source waits for its topic, and names it, if it works for another', async () => {
  const running = await opened('orders', 'visits');
  loopOf('visits').options.onWaitingForTopic?.('visits');
  expect(running.ready()).toMatchObject({
    ok: false,
    details: { visits: { waitingForTopic: 'visits' } },
  });
  loopOf('orders').joined = true;
  expect(running.ready().ok).toBe(true);
  loopOf('visits').joined = true;
  expect(running.ready()).toMatchObject({ ok: true });
  // Once it has begun, being away is no wait for a topic any more.
  loopOf('visits').joined = false;
  const { ok, details } = running.ready();
  expect({ ok, visits: details['visits'] }).not.toMatchObject({
    visits: { waitingForTopic: 'visits' },
  });
  expect(ok).toBe(false);
});
