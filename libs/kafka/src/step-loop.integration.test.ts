import { afterAll, afterEach, beforeAll, describe, expect, it } from 'vitest';
import { HaltPartition } from './errors.ts';
import type { Kafka } from './kafka.ts';
import { copyTo, loopOptions, valuesOf } from './step-fixtures.ts';
import type { StepLoop, StepLoopOptions } from './step-loop.ts';
import {
  connectForTest,
  contents,
  createTopic,
  settledContents,
  uniqueName,
  until,
} from './testing.ts';

let kafka: Kafka;
const loops = new Set<StepLoop>();
beforeAll(async () => {
  kafka = await connectForTest();
});
afterEach(async () => {
  await Promise.all([...loops].map((loop) => loop.stop(5_000)));
  loops.clear();
});
afterAll(() => kafka.close());

function run(options: Parameters<typeof loopOptions>[0]): StepLoop {
  const loop = kafka.stepLoop(loopOptions(options));
  loops.add(loop);
  loop.start();
  return loop;
}

/** `partition:value` of `count` records that are now in the topic, numbered from `first`. */
async function fill(
  topic: string,
  partitions: number,
  count: number,
  first = 0,
): Promise<string[]> {
  const producer = kafka.producer();
  const messages = Array.from({ length: count }, (_, index) => ({
    partition: index % partitions,
    value: `${first + index}`,
  }));
  await producer.send(topic, messages);
  await producer.close();
  return messages
    .map(({ partition, value }) => `${partition}:${value}`)
    .toSorted((a, b) => Number(a.split(':')[0]) - Number(b.split(':')[0]));
}

const bigMessages = Array.from({ length: 12 }, () => ({
  partition: 0,
  value: Buffer.alloc(500_000, 'x'),
}));

async function topics(
  partitions: number,
): Promise<{ source: string; target: string; groupId: string }> {
  const [source, target] = await Promise.all(
    ['source', 'target'].map((what) => createTopic(kafka, what, partitions)),
  );
  return { source: source!, target: target!, groupId: uniqueName('group') };
}

/** All of the topic is committed by the group. */
async function done(groupId: string, topic: string): Promise<void> {
  await until(`group ${groupId} has read all of ${topic}`, async () => {
    const committed = await kafka.admin.committed(groupId, [topic]);
    const ends = await kafka.admin.offsets(topic);
    return ends.every(
      ({ partition, latest }) =>
        latest === 0n || committed.find((at) => at.partition === partition)?.offset === latest,
    );
  });
}

describe('a step loop', () => {
  it('copies every record once, and keeps its small state with the offsets', async () => {
    const { source, target, groupId } = await topics(3);
    const expected = await fill(source, 3, 3_000);
    const copy = copyTo(target);
    const loop = run({ groupId, topics: [source], step: copy });
    await done(groupId, source);
    expect(await settledContents(kafka, target, expected.length)).toEqual(expected);
    expect(await kafka.admin.committed(groupId, [source])).toMatchObject(
      [0, 1, 2].map((partition) => ({ partition, offset: 1000n, metadata: 'next=1000' })),
    );
    await until('the lag is nothing', () =>
      loop.state().partitions.every(({ lagRecords }) => lagRecords === 0n),
    );
    expect(loop.state()).toMatchObject({ joined: true, rebuilds: 0, halted: [], fatal: null });
    expect(loop.state().lastHeartbeatAt).not.toBeNull();
  });

  it('goes on from what is committed after any fault of a step, and drops what was not', async () => {
    const { source, target, groupId } = await topics(2);
    const expected = await fill(source, 2, 2_000);
    const copy = copyTo(target);
    const events: string[] = [];
    let steps = 0;
    const loop = run({
      groupId,
      topics: [source],
      limits: { stepBytes: 2_000, stepMilliseconds: 1, queueHighBytes: 1e6, queueLowBytes: 1e5 },
      assigned(partitions) {
        events.push(`assigned ${partitions.map(({ partition }) => partition).join()}`);
      },
      revoked: () => void events.push('revoked'),
      step(work) {
        if (work.length > 0 && steps++ % 3 === 1) {
          throw new Error('a fault');
        }
        return copy(work);
      },
    });
    await done(groupId, source);
    expect(await settledContents(kafka, target, expected.length)).toEqual(expected);
    const { rebuilds } = loop.state();
    expect(rebuilds).toBeGreaterThan(0);
    await loop.stop(5_000);
    expect(events.slice(0, 3)).toEqual(['assigned 0,1', 'revoked', 'assigned 0,1']);
    expect(events.at(-1)).toBe('revoked');
    expect(events).toHaveLength(2 * (rebuilds + 1));
  });

  it('gives up on a fault that does not go away', async () => {
    const { source, groupId } = await topics(1);
    await fill(source, 1, 1);
    const fatal = Promise.withResolvers<Error>();
    run({
      groupId,
      topics: [source],
      onFatal: fatal.resolve,
      step: () => {
        throw Object.assign(new Error('no cure'), { fatal: true });
      },
    });
    expect((await fatal.promise).message).toBe('no cure');
  });

  it('keeps what a step returns nothing for, and commits it with a later one', async () => {
    const { source, target, groupId } = await topics(1);
    const expected = await fill(source, 1, 500);
    const copy = copyTo(target);
    const spool: Parameters<typeof copy>[0][number][] = [];
    run({
      groupId,
      topics: [source],
      limits: { stepBytes: 500, stepMilliseconds: 1, queueHighBytes: 1e6, queueLowBytes: 1e5 },
      step(work) {
        spool.push(...work);
        if (spool.at(-1)?.next !== 500n) {
          return null;
        }
        return copy(spool.splice(0));
      },
    });
    await done(groupId, source);
    expect(await settledContents(kafka, target, expected.length)).toEqual(expected);
  });

  it('runs without work, often enough and when woken', async () => {
    const { source, groupId } = await topics(1);
    let steps = 0;
    const loop = run({
      groupId,
      topics: [source],
      idleMilliseconds: 3_600_000,
      step: () => (steps++, null),
    });
    await until('it has joined', () => loop.state().joined);
    loop.wake();
    await until('the woken step', () => steps === 1);
    const other = run({
      groupId: `${groupId}.idle`,
      topics: [source],
      idleMilliseconds: 5,
      step: () => null,
    });
    await until('idle steps', () => other.state().steps > 3);
    expect(steps).toBe(1);
  });

  it('passes over aborted records at the end, and says how far it is', async () => {
    const { source, target, groupId } = await topics(1);
    const writer = await kafka.transactionalProducer({ transactionalId: uniqueName('writer') });
    await writer.commit([{ topic: source, partition: 0, value: Buffer.from('good') }], [], null);
    const copy = copyTo(target);
    run({ groupId, topics: [source], step: copy });
    await done(groupId, source);
    const aborted = await writer.begin();
    await aborted.send([{ topic: source, partition: 0, value: Buffer.from('bad') }]);
    await aborted.abort();
    await writer.close();
    await done(groupId, source);
    expect(await settledContents(kafka, target, 1)).toEqual(['0:good']);
  });

  it('shares the partitions with a second one, and takes them back, without loss or repetition', async () => {
    const { source, target, groupId } = await topics(4);
    const copy = copyTo(target);
    const expected = await fill(source, 4, 4_000);
    const options: Pick<StepLoopOptions, 'groupId' | 'topics' | 'step' | 'limits'> = {
      groupId,
      topics: [source],
      limits: { stepBytes: 3_000, stepMilliseconds: 1, queueHighBytes: 1e6, queueLowBytes: 1e5 },
      step: copy,
    };
    const first = run({ ...options, instance: 'first' });
    await until('the first one works', () => first.state().transactions > 2);
    const second = run({ ...options, instance: 'second' });
    await until('both have partitions', () =>
      [first, second].every((loop) => {
        const { joined, partitions } = loop.state();
        return joined && partitions.length === 2;
      }),
    );
    const more = await fill(source, 4, 4_000, 4_000);
    await until('the second one works', () => second.state().transactions > 0);
    await first.stop(5_000);
    await until('the second one has all', () => second.state().partitions.length === 4);
    await done(groupId, source);
    const copied = await settledContents(kafka, target, 8_000);
    expect(copied).toEqual(
      [...expected, ...more].toSorted((a, b) => Number(a.split(':')[0]) - Number(b.split(':')[0])),
    );
    expect(second.state().fatal).toBeNull();
  });

  it('notices an added partition', async () => {
    const { source, target, groupId } = await topics(1);
    const copy = copyTo(target);
    await kafka.admin.createPartitions(target, 2);
    const loop = run({ groupId, topics: [source], step: copy });
    await until('it has joined', () => loop.state().joined);
    await kafka.admin.createPartitions(source, 2);
    await until('it has both', () => loop.state().partitions.length === 2);
    const expected = await fill(source, 2, 10);
    await done(groupId, source);
    expect(await settledContents(kafka, target, expected.length)).toEqual(expected);
  });

  it('waits for a topic that does not exist yet', async () => {
    const [source, groupId] = [uniqueName('late'), uniqueName('group')];
    const waiting = Promise.withResolvers<string>();
    const loop = run({
      groupId,
      topics: [source],
      onWaitingForTopic: waiting.resolve,
      step: () => null,
    });
    expect(await waiting.promise).toBe(source);
    await kafka.admin.ensureTopics([{ name: source, partitions: 1 }]);
    await until('it has joined', () => loop.state().joined);
  });

  it('ends when a second one has its name, and says so', async () => {
    const { source, target, groupId } = await topics(1);
    const fatal = Promise.withResolvers<Error>();
    const copy = copyTo(target);
    const first = run({
      groupId,
      topics: [source],
      onFatal: fatal.resolve,
      step: copy,
    });
    await until('it has joined', () => first.state().joined);
    const usurper = await kafka.transactionalProducer({ transactionalId: `${groupId}.one` });
    await fill(source, 1, 10);
    await expect(fatal.promise).resolves.toMatchObject({ code: 'FENCED' });
    expect((await fatal.promise).message).toContain('name of its own');
    expect(await contents(kafka, target)).toEqual([]);
    await usurper.close();
  });

  it('ends when a second one takes its place in the group, also without transactions', async () => {
    const { source, groupId } = await topics(1);
    const fatal = Promise.withResolvers<Error>();
    const options = {
      groupId,
      topics: [source],
      transactional: false,
      sessionTimeout: 6_000,
      onFatal: fatal.resolve,
      step: () => null,
    };
    const first = run(options);
    await until('the first one has joined', () => first.state().joined);
    run(options);
    await expect(fatal.promise).resolves.toMatchObject({ code: 'FENCED' });
  });

  it('lets the open step end and commit when it is stopped', async () => {
    const { source, target, groupId } = await topics(1);
    const expected = await fill(source, 1, 5);
    const copy = copyTo(target);
    const inside = Promise.withResolvers<void>();
    const release = Promise.withResolvers<void>();
    const loop = run({
      groupId,
      topics: [source],
      async step(work) {
        if (work.length > 0) {
          inside.resolve();
          await release.promise;
        }
        return copy(work);
      },
    });
    await inside.promise;
    const stopped = loop.stop(10_000);
    release.resolve();
    await stopped;
    expect(await settledContents(kafka, target, expected.length)).toEqual(expected);
  });

  it('drops the open step at the deadline', async () => {
    const { source, target, groupId } = await topics(1);
    await fill(source, 1, 5);
    const copy = copyTo(target);
    const inside = Promise.withResolvers<AbortSignal>();
    const release = Promise.withResolvers<void>();
    const loop = run({
      groupId,
      topics: [source],
      async step(work, { signal }) {
        if (work.length > 0) {
          inside.resolve(signal);
          await release.promise;
        }
        return copy(work);
      },
    });
    const signal = await inside.promise;
    await loop.stop(50);
    expect(signal.aborted).toBe(true);
    release.resolve();
    expect(await contents(kafka, target)).toEqual([]);
    expect(await kafka.admin.committed(groupId, [source])).toEqual([]);
  });
});

describe('a partition is halted', () => {
  it('when its step says so, while the others go on', async () => {
    const { source, target, groupId } = await topics(2);
    await fill(source, 2, 100);
    const copy = copyTo(target);
    const loop = run({
      groupId,
      topics: [source],
      step(work) {
        for (const part of work) {
          if (part.partition === 1 && part.batches.length > 0) {
            throw new HaltPartition(source, 1, 'a gap');
          }
        }
        return copy(work);
      },
    });
    await until('partition 0 is copied', async () =>
      (await kafka.admin.committed(groupId, [source])).some((at) => at.offset === 50n),
    );
    expect(loop.state().halted).toEqual([{ topic: source, partition: 1, reason: 'a gap' }]);
    expect(await kafka.admin.committed(groupId, [source])).toMatchObject([{ partition: 0 }]);
    const more = await fill(source, 1, 10, 900);
    await until('and goes on', async () =>
      (await kafka.admin.committed(groupId, [source])).some((at) => at.offset === 60n),
    );
    expect((await settledContents(kafka, target, 60)).slice(-10)).toEqual(more);
  });

  it('when retention was faster than we, at start', async () => {
    const { source, target, groupId } = await topics(2);
    await fill(source, 2, 100);
    const copy = copyTo(target);
    const first = run({ groupId, topics: [source], step: copy });
    await done(groupId, source);
    await first.stop(5_000);
    const more = await fill(source, 2, 100, 100);
    await kafka.admin.deleteRecords(source, 0, 70n);
    const lost: object[] = [];
    const loop = run({
      groupId,
      topics: [source],
      step: copy,
      lost: (range) => void lost.push(range),
    });
    await until('it has joined', () => loop.state().joined);
    expect(loop.state().halted).toMatchObject([{ topic: source, partition: 0 }]);
    expect(loop.state().halted[0]!.reason).toContain('50 to 70');
    expect(lost).toEqual([
      { topic: source, partition: 0, expected: 50n, earliest: 70n, latest: 100n },
    ]);
    await until('the other partition is copied', async () =>
      (await kafka.admin.committed(groupId, [source])).some((at) => at.offset === 100n),
    );
    expect(
      (await settledContents(kafka, target, 150)).filter((line) => line.startsWith('1:')),
    ).toEqual(expect.arrayContaining(more.filter((line) => line.startsWith('1:'))));
  });

  it('when retention was faster than we, under way, and never skips what is lost', async () => {
    const { source, target, groupId } = await topics(1);
    const producer = kafka.producer();
    await producer.send(source, bigMessages);
    const copy = copyTo(target);
    const inside = Promise.withResolvers<void>();
    const release = Promise.withResolvers<void>();
    const lost: { expected: bigint; earliest: bigint }[] = [];
    run({
      groupId,
      topics: [source],
      // Fetching pauses as soon as something is queued.
      limits: { stepBytes: 1, stepMilliseconds: 1, queueHighBytes: 1, queueLowBytes: 0 },
      lost: (range) => void lost.push(range),
      async step(work) {
        if (work.length > 0) {
          inside.resolve();
          await release.promise;
        }
        return copy(work);
      },
    });
    await inside.promise;
    await producer.send(source, bigMessages);
    await kafka.admin.deleteRecords(source, 0, 20n);
    release.resolve();
    await until('it is halted', () => lost.length > 0);
    const [range] = lost;
    expect(range).toMatchObject({ earliest: 20n });
    expect(range!.expected).toBeLessThan(20n);
    const copied = Number(range!.expected);
    expect(await settledContents(kafka, target, copied)).toHaveLength(copied);
    await producer.close();
  });

  it('when the topic was recreated and ends in front of where we were', async () => {
    const { source, groupId } = await topics(1);
    const lost: object[] = [];
    const loop = run({
      groupId,
      topics: [source],
      transactional: false,
      lost: (range) => void lost.push(range),
      assigned: () => [{ topic: source, partition: 0, offset: 5n }],
      step: () => null,
    });
    await until('it is halted', () => loop.state().halted.length === 1);
    expect(loop.state().halted[0]!.reason).toContain('ends at 0');
    expect(lost).toEqual([{ topic: source, partition: 0, expected: 5n, earliest: 0n, latest: 0n }]);
  });
});

describe('without transactions', () => {
  it('begins where its own store says, and leaves the offsets as a hint', async () => {
    const { source, groupId } = await topics(1);
    await fill(source, 1, 100);
    const seen: string[] = [];
    const starts: bigint[] = [];
    const options: Parameters<typeof run>[0] = {
      groupId,
      topics: [source],
      transactional: false,
      assigned([partition]) {
        starts.push(partition!.committed?.offset ?? -1n);
        return [{ topic: source, partition: 0, offset: 40n }];
      },
      step(work) {
        seen.push(...work.flatMap(valuesOf));
        return {
          messages: [],
          offsets: work.map(({ topic, partition, next }) => ({ topic, partition, offset: next })),
        };
      },
    };
    const first = run(options);
    await done(groupId, source);
    await first.stop(5_000);
    expect(seen).toEqual(Array.from({ length: 60 }, (_, index) => `${40 + index}`));
    const again = run(options);
    await until('it has read them again', () => seen.length === 120);
    expect(starts).toEqual([-1n, 100n]);
    await again.stop(5_000);
  });
});
