import { encodePartial, type Partial } from '@anabranch/contract';
import { recordBatch } from '@anabranch/contract/testing';
import { databaseWith, planWith, source, totalPlan, totalText } from '@anabranch/postgres/testing';
import { Tracer } from '@anabranch/service';
import { expect, it } from 'vitest';
import { SourceFusion } from './source-fusion.ts';
import { log, metrics, partialOf, results, tableOf } from './testing.ts';

interface Sent {
  readonly traceId: string;
  readonly parentSpanId: string | null;
  readonly name: string;
  readonly attributes: Readonly<Record<string, unknown>>;
  readonly error: string | null;
}

const traceId = (index: number): string => `${index}`.padStart(32, 'a');
const parent = 'b'.repeat(16);

it('what Postgres refuses is a span that says why; what stood behind it was not committed', async () => {
  const plan = planWith([totalPlan]);
  const { pool } = await databaseWith(plan);
  const sent: Sent[] = [];
  const add = (span: Sent): unknown => sent.push(span);
  const fusion = new SourceFusion({
    plan: plan.sources.get(source.name)!,
    pool,
    instance: 'test',
    log,
    metrics,
    tracer: new Tracer({ add, close: () => Promise.resolve() }, 1),
    countPartitions: () => Promise.resolve(1),
    processed: () => undefined,
  });
  await fusion.assigned([
    { topic: results, partition: 0, generation: 1, committed: null, earliest: 0n, latest: 0n },
  ]);
  const good = (from: bigint): Partial =>
    partialOf(
      { from, to: from + 1n },
      { tables: [tableOf('total', 1n, totalText([{ window: 0, count: 1 }]))] },
    );
  const partials = [
    good(0n),
    partialOf({ from: 1n, to: 2n }, { tables: [tableOf('total', 1n, '"0\n')] }),
    good(2n),
  ];
  const batch = recordBatch(
    partials.flatMap(encodePartial).map((value, offset) => ({
      offset,
      value,
      headers: [['traceparent', Buffer.from(`00-${traceId(offset)}-${parent}-01`)]],
    })),
  );
  const halted: string[] = [];
  await fusion.step(
    [
      {
        topic: results,
        partition: 0,
        batches: [batch],
        from: 0n,
        next: 3n,
        bytes: batch.length,
        highWatermark: 3n,
      },
    ],
    {
      generation: 1,
      signal: new AbortController().signal,
      halt: (_topic, _partition, reason) => halted.push(reason),
      wake: () => undefined,
    },
  );
  expect(halted).toHaveLength(1);
  expect(
    sent
      .toSorted((a, b) => (a.traceId < b.traceId ? -1 : 1))
      .map(({ name, traceId: id, parentSpanId, attributes, error }) => [
        name,
        id,
        parentSpanId,
        attributes['anabranch.from'],
        error,
      ]),
  ).toEqual([
    ['fusion.commit', traceId(0), parent, 0n, null],
    ['fusion.commit', traceId(1), parent, 1n, halted[0]],
    ['fusion.commit', traceId(2), parent, 2n, expect.stringMatching(/not committed/)],
  ]);
});
