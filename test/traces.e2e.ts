import { createHash } from 'node:crypto';
import { countRecords, decodeBlock, internalTopics } from '@anabranch/contract';
import type { ServiceName, ServiceProcess } from '@anabranch/servers';
import { expect, test } from 'vitest';
import { type Chain, openChain } from './chain.ts';
import { eventsDefinition } from './events.ts';
import { expectEvents } from './events-oracle.ts';
import { Load } from './load.ts';
import { RecordGenerator, type SourceRecord } from './records.ts';
import { type ReceivedSpan, TraceCollector } from './trace-collector.ts';

const partitions = 3;

/** What the ids are to be, worked out apart from the code that makes them. */
const sha256 = (text: string): string => createHash('sha256').update(text).digest('hex');
const idsOfBlock = (source: string, partition: number, from: bigint) => {
  const digits = sha256(`anabranch ${source} ${partition} ${from}`);
  return { traceId: digits.slice(0, 32), spanId: digits.slice(32, 48) };
};

const isOf = (parent: { traceId: string; spanId: string }, span: ReceivedSpan): boolean =>
  (span.traceId === parent.traceId && span.parentSpanId === parent.spanId) ||
  span.links.some((link) => link.traceId === parent.traceId && link.spanId === parent.spanId);

const rangeOf = ({ attributes: { partition, branch, from, to } }: ReceivedSpan): string =>
  `${partition} ${branch} [${from}, ${to})`;

/** The blocks of a branch topic that cover records of either branch, and the header that each came with. */
async function blocksIn(chain: Chain, topic: string) {
  const blocks: {
    partition: number;
    from: bigint;
    to: bigint;
    records: number;
    header: string | undefined;
  }[] = [];
  await chain.kafka.readTopic(topic, (partition, { value, headers }) => {
    const { from, to, runs } = decodeBlock(value ?? Buffer.alloc(0));
    if (from < to) {
      const header = headers.find(({ key }) => key === 'traceparent')?.value?.toString();
      blocks.push({ partition, from, to, records: countRecords(runs), header });
    }
  });
  return blocks;
}

/** By the definition's rules that stand in front of `live`, whose header the test sets itself. */
const isForTheStream = ({ value, headers, dead }: SourceRecord): boolean =>
  dead === null &&
  value !== null &&
  value.length <= 420 &&
  !value.includes('refund') &&
  headers['bulk'] === undefined;

async function stopAll(
  chain: Chain,
  services: Readonly<Record<ServiceName, ServiceProcess>>,
): Promise<void> {
  for (const service of Object.values(services)) {
    const code = await chain.stop(service);
    expect({ service: service.service, code }).toEqual({ service: service.service, code: 0 });
  }
}

test("each block's trace goes from its producer over both branches to the commits in Postgres", async () => {
  const collector = await TraceCollector.open();
  const env = { OTEL_EXPORTER_OTLP_ENDPOINT: collector.url, OTEL_TRACES_SAMPLER_ARG: '1' };
  const chain = await openChain({ define: eventsDefinition, partitions, env });
  const services = chain.startAll();
  const generator = new RecordGenerator(51, partitions, 200);
  const producers = { traceId: 'a'.repeat(32), spanId: 'b'.repeat(16) };
  const traceparent = `00-${producers.traceId}-${producers.spanId}-00`;
  await chain.produce(
    generator
      .take(3000)
      .map((record) => ({ ...record, headers: { ...record.headers, traceparent } })),
  );
  await chain.settled();
  // Records that leave the batch branch with blocks of no record.
  const live = generator.take(300).filter(isForTheStream);
  await chain.produce(live.map((record) => ({ ...record, headers: { live: 'true' } })));
  await chain.settled();
  await chain.produce(generator.closing());
  await chain.settled();
  await expectEvents(chain);
  await stopAll(chain, services);

  const { spans } = collector;
  expect(spans.filter(({ status }) => status.code !== undefined)).toEqual([]);
  expect(new Set(spans.map(({ spanId }) => spanId)).size).toBe(spans.length);
  expect(spans.every((span) => span.startTimeUnixNano <= span.endTimeUnixNano)).toBe(true);
  const ingested = spans.filter(({ name }) => name === 'ingest.step');
  expect(new Set(ingested.map(({ service }) => service))).toEqual(new Set(['anabranch.ingest']));
  expect(ingested.reduce((sum, { attributes }) => sum + Number(attributes['records']), 0)).toBe(
    chain.produced.length,
  );
  const isFirst = ({ attributes: { partition, from } }: ReceivedSpan): boolean =>
    from === chain.produced.find((record) => BigInt(record.partition) === partition)?.offset;
  expect(ingested.filter(isFirst).map(({ links }) => links)).toEqual(
    Array.from({ length: partitions }, () => [producers]),
  );

  for (const branch of ['stream', 'batch'] as const) {
    const blocks = await blocksIn(chain, internalTopics(chain.topic)[branch]);
    expect(blocks.length).toBe(ingested.length);
    expect(blocks.some(({ records }) => records > 0)).toBe(true);
    expect(branch === 'stream' || blocks.some(({ records }) => records === 0)).toBe(true);
    for (const { partition, from, to, header } of blocks) {
      const ids = idsOfBlock(chain.source, partition, from);
      expect(header).toBe(`00-${ids.traceId}-${ids.spanId}-01`);
      const [first, ...others] = ingested.filter(({ spanId }) => spanId === ids.spanId);
      expect(others).toEqual([]);
      expect(first?.parentSpanId).toBeUndefined();
      expect(first).toMatchObject({
        traceId: ids.traceId,
        attributes: { source: chain.source, partition: BigInt(partition), from, to },
      });
      const processed = spans.filter(
        (span) => span.name === `${branch}.process` && isOf(ids, span),
      );
      expect(processed.map(({ service }) => service)).toEqual([`anabranch.${branch}-processor`]);
      const [process] = processed as [ReceivedSpan];
      expect(process.attributes['branch']).toBe(branch);
      expect(process.attributes['from']).toSatisfy((begin: bigint) => begin <= from);
      expect(process.attributes['to']).toSatisfy((end: bigint) => end >= to);
      const committed = spans.filter((span) => isOf(process, span));
      expect(committed.map(({ name, traceId }) => [name, traceId])).toEqual([
        ['fusion.commit', process.traceId],
      ]);
      expect(committed.map(rangeOf)).toEqual([rangeOf(process)]);
    }
  }
  // What a run has stored names it, in the processor and in fusion.
  const runs = await chain.query<{ run: string }>('SELECT run::text FROM anabranch.runs');
  expect(runs.length).toBeGreaterThan(0);
  const runsOf = (name: string) =>
    new Set(
      spans.filter((span) => span.name === name).flatMap((span) => span.attributes['run'] ?? []),
    );
  expect(runsOf('batch.process')).toEqual(new Set(runs.map(({ run }) => run)));
  expect(runsOf('fusion.commit')).toEqual(runsOf('batch.process'));
});

test('a replay gives the same ids: of blocks after kills, and of commits into an empty database', async () => {
  const collector = await TraceCollector.open();
  const env = {
    OTEL_EXPORTER_OTLP_ENDPOINT: collector.url,
    OTEL_TRACES_SAMPLER_ARG: '1',
    SESSION_SECONDS: '6',
  };
  const chain = await openChain({ define: eventsDefinition, partitions, env });
  const services = chain.startAll();
  const load = new Load(chain, 52);
  await load.progress('stream');
  for (const name of ['ingest', 'stream-processor'] as const) {
    await chain.kill(services[name]);
    services[name] = chain.start(name);
    await load.progress('stream');
  }
  await load.end();
  await chain.settled();
  expect(await chain.stop(services.fusion)).toBe(0);

  const { stream } = internalTopics(chain.topic);
  for (const { partition, from, header } of await blocksIn(chain, stream)) {
    const { traceId, spanId } = idsOfBlock(chain.source, partition, from);
    expect(header).toBe(`00-${traceId}-${spanId}-01`);
  }
  const commits = (): string[] =>
    collector.spans
      .splice(0)
      .filter(({ name }) => name === 'fusion.commit')
      .map((span) => `${span.traceId} ${span.spanId} ${span.parentSpanId} ${rangeOf(span)}`)
      .toSorted();
  const before = commits();
  expect(before.length).toBeGreaterThan(0);
  await chain.query('DROP SCHEMA anabranch CASCADE');
  services.fusion = chain.start('fusion');
  await chain.settled();
  await stopAll(chain, services);
  expect(commits()).toEqual(before);
  await expectEvents(chain);
});

test('a collector that is away, refuses or never answers holds up nothing, and what it misses is counted', async () => {
  const silent = await TraceCollector.open(null);
  const refusing = await TraceCollector.open(400);
  const env = { OTEL_EXPORTER_OTLP_ENDPOINT: silent.url, OTEL_TRACES_SAMPLER_ARG: '1' };
  const chain = await openChain({ define: eventsDefinition, partitions, env });
  const services = {
    ingest: chain.start('ingest'),
    'stream-processor': chain.start('stream-processor', 'a', {
      env: { OTEL_EXPORTER_OTLP_ENDPOINT: refusing.url },
    }),
    'batch-processor': chain.start('batch-processor'),
    fusion: chain.start('fusion', 'a', {
      // Nothing listens there.
      env: { OTEL_EXPORTER_OTLP_ENDPOINT: 'http://127.0.0.1:9' },
    }),
  };
  const generator = new RecordGenerator(53, partitions, 200);
  await chain.produce(generator.take(2000));
  await chain.produce(generator.closing());
  await chain.settled();
  await expectEvents(chain);
  await chain.eventually('spans to be dropped', async () =>
    /^anabranch_trace_spans_total{fate="dropped"} [1-9]/m.test(
      await services['stream-processor'].metrics(),
    )
      ? true
      : undefined,
  );
  await chain.eventually('ingest to ask the silent one', () => silent.requests > 0 || undefined);
  for (const service of Object.values(services)) {
    expect(await service.metrics()).not.toMatch(/trace_spans_total{fate="sent"} [1-9]/);
  }
  // Nor does it hold up the end: with spans still waiting, the exit is not one by force.
  await stopAll(chain, services);
});
