import { beforeEach, describe, expect, test } from 'vitest';
import type { Span } from './span-exporter.ts';
import { formatTraceparent, rangeContext } from './trace-context.ts';
import { mostLinks, type StepSpans, Tracer } from './tracer.ts';

let sent: Span[];
let tracer: Tracer;
let spans: StepSpans;

beforeEach(() => {
  sent = [];
  tracer = new Tracer({ add: (span) => sent.push(span), close: () => Promise.resolve() }, 1);
  spans = tracer.spans('step');
});

const root = rangeContext('orders', 0, 0n);
const traceparent = (from: bigint): string => formatTraceparent(rangeContext('orders', 0, from));
const cost = {
  service: 'ingest',
  bytes: 10,
  records: 2,
  rows: 1,
  load: 0,
  preprocess: 0.5,
  process: 1,
  store: 2,
};

describe('the spans of a step', () => {
  test('are sent when it is committed, with what it has cost', async () => {
    const key = {};
    await spans.during(() => {
      spans.root(key, root, [], { 'anabranch.from': 0n });
      return Promise.resolve();
    });
    expect(sent).toEqual([]);
    expect(spans.traceparent(key)).toBe(formatTraceparent(root));
    spans.end(cost);
    expect(sent).toMatchObject([{ ...root, parentSpanId: null, name: 'step', error: null }]);
    expect(sent[0]?.attributes).toMatchObject({
      'anabranch.from': 0n,
      'anabranch.step.records': 2n,
      'anabranch.step.load_seconds': 0,
      'anabranch.step.store_seconds': 2,
    });
    expect(spans.traceparent(key)).toBeUndefined();
  });

  test('of several blocks stand under the first, with links to the others', async () => {
    const key = {};
    const parents = Array.from({ length: 200 }, (_, i) => traceparent(BigInt(i)));
    await spans.during(() => {
      spans.child(key, parents, 'stream', {});
      return Promise.resolve();
    });
    spans.end();
    expect(sent).toMatchObject([{ traceId: root.traceId, parentSpanId: root.spanId }]);
    expect(sent[0]?.links.map(({ spanId }) => spanId)).toEqual(
      parents.slice(1, 1 + mostLinks).map((parent) => parent.split('-')[2]),
    );
  });

  test('have the same ids when the step is done again', async () => {
    for (const key of [{}, {}]) {
      await spans.during(() => {
        spans.child(key, [traceparent(4n)], 'stream', {});
        return Promise.resolve();
      });
      spans.end();
    }
    expect(sent[1]).toMatchObject({ traceId: sent[0]?.traceId, spanId: sent[0]?.spanId });
  });

  test('that fails say why, under ids of their own beside those of whoever succeeds', async () => {
    const step = spans.during(() => {
      spans.root({}, root, [], {});
      return Promise.reject(new Error('the disk is full'));
    });
    await expect(step).rejects.toThrow('the disk is full');
    await spans.during(() => {
      spans.root({}, root, [], {});
      return Promise.resolve();
    });
    spans.end();
    expect(sent).toMatchObject([
      { error: 'the disk is full', traceId: root.traceId, parentSpanId: root.spanId },
      { error: null, ...root, parentSpanId: null },
    ]);
    expect(sent[0]?.spanId).not.toBe(sent[1]?.spanId);
  });

  test('of which the transaction was lost end with it, and are not taken for those of the next step', async () => {
    const key = {};
    const open = () =>
      spans.during(() => {
        spans.child(key, [traceparent(4n)], 'stream', {});
        return Promise.resolve();
      });
    await open();
    spans.abandon();
    expect(sent.map(({ error }) => error)).toEqual([expect.stringMatching(/not committed/)]);
    expect(spans.traceparent(key)).toBeUndefined();
    await open();
    await spans.during(() => Promise.resolve());
    spans.end();
    expect(sent.map(({ error }) => error === null)).toEqual([false, false]);
  });

  test('end apart where only some of a step are committed', async () => {
    const [a, b, c] = [{}, {}, {}];
    await spans.during(() => {
      for (const [i, key] of [a, b, c].entries()) {
        spans.child(key, [traceparent(BigInt(i))], 'fusion', { 'anabranch.from': BigInt(i) });
      }
      return Promise.resolve();
    });
    spans.fail('Postgres refuses its rows', [b]);
    spans.end(cost, [a]);
    spans.abandon();
    expect(sent.map(({ attributes, error }) => [attributes['anabranch.from'], error])).toEqual([
      [1n, 'Postgres refuses its rows'],
      [0n, null],
      [2n, expect.stringMatching(/not committed/)],
    ]);
  });
});

describe('where traces are off', () => {
  test('nothing is sampled', () => {
    expect(Tracer.off.sample('orders', 0, 0n)).toBeNull();
  });

  test('what comes in goes on', async () => {
    const key = {};
    const off = Tracer.off.spans('step');
    await off.during(() => {
      off.child(key, [traceparent(4n), traceparent(5n)], 'stream', {});
      return Promise.resolve();
    });
    expect(off.traceparent(key)).toBe(traceparent(4n));
    off.end();
    expect(off.traceparent(key)).toBeUndefined();
  });
});

test('what is not sampled gets no span, and stays so', async () => {
  const key = {};
  const unsampled = traceparent(4n).replace(/01$/, '00');
  await spans.during(() => {
    spans.child(key, [unsampled], 'stream', {});
    return Promise.resolve();
  });
  expect(spans.traceparent(key)).toBe(unsampled);
  spans.end();
  expect(sent).toEqual([]);
});

test('a header that is no traceparent makes no span', async () => {
  const key = {};
  await spans.during(() => {
    spans.child(key, ['nonsense'], 'stream', {});
    return Promise.resolve();
  });
  expect(spans.traceparent(key)).toBeUndefined();
  spans.end();
  expect(sent).toEqual([]);
});
