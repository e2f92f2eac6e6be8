import { createServer, type IncomingMessage, type ServerResponse } from 'node:http';
import type { AddressInfo } from 'node:net';
import { json } from 'node:stream/consumers';
import { afterEach, beforeEach, describe, expect, test, vi } from 'vitest';
import { createMetrics } from './create-metrics.ts';
import { readConfig } from './config.ts';
import { Log } from './log.ts';
import { settings } from './settings.ts';
import { encodeSpans, type Span, SpanExporter } from './span-exporter.ts';
import { rangeContext } from './trace-context.ts';
import { openTracer, Tracer } from './tracer.ts';

const span = (from: number): Span => ({
  ...rangeContext('orders', 0, BigInt(from)),
  parentSpanId: null,
  name: 'ingest.step',
  startedAt: 1_750_000_000_000.25,
  endedAt: 1_750_000_000_001.5,
  attributes: { 'anabranch.from': BigInt(from) },
  links: [],
  error: null,
});

type Answer = (response: ServerResponse) => void;
const status =
  (code: number): Answer =>
  (response) =>
    response.writeHead(code).end();

let answer: Answer;
let received: { readonly request: IncomingMessage; readonly spans: number }[];
let port: number;
let metrics: ReturnType<typeof createMetrics>;
let lines: string[];
let log: Log;
let server: ReturnType<typeof createServer>;

beforeEach(async () => {
  answer = status(200);
  received = [];
  lines = [];
  metrics = createMetrics('ingest', '0');
  log = new Log({ service: 'ingest', instance: 'a', write: (line) => lines.push(line) });
  server = createServer((request, response) => {
    void (async () => {
      const body = (await json(request)) as {
        resourceSpans: { scopeSpans: { spans: object[] }[] }[];
      };
      const spans = body.resourceSpans[0]?.scopeSpans[0]?.spans.length ?? 0;
      received.push({ request, spans });
      answer(response);
    })();
  });
  await new Promise<void>((resolve) => {
    server.listen(0, '127.0.0.1', resolve);
  });
  ({ port } = server.address() as AddressInfo);
});
afterEach(() => {
  server.close();
  server.closeAllConnections();
});

const exporter = (path = '/v1/traces'): SpanExporter =>
  new SpanExporter({
    url: `http://127.0.0.1:${port}${path}`,
    headers: { authorization: 'Bearer x' },
    resource: { 'service.name': 'anabranch.ingest' },
    version: '0.1.0',
    metrics,
    log,
  });

async function counted(): Promise<Record<string, number>> {
  const page = await metrics.page.text();
  const samples = page.matchAll(/^anabranch_trace_spans_total{fate="(\w+)"} (\d+)/gm);
  const counts: Record<string, number> = {};
  for (const [, fate = '', count] of samples) {
    counts[fate] = Number(count);
  }
  return counts;
}

describe('spans', () => {
  test('are what OTLP has them to be in JSON', () => {
    const whole = {
      ...span(7),
      parentSpanId: 'c1a5b4ad17c0a4cb',
      attributes: { text: 'a', whole: 7n, decimal: 1 },
      links: [rangeContext('orders', 1, 1n)],
      error: 'no',
    };
    expect(encodeSpans([whole], { 'service.name': 'x' }, '1')).toEqual({
      resourceSpans: [
        {
          resource: { attributes: [{ key: 'service.name', value: { stringValue: 'x' } }] },
          scopeSpans: [
            {
              scope: { name: 'anabranch', version: '1' },
              spans: [
                {
                  traceId: whole.traceId,
                  spanId: whole.spanId,
                  parentSpanId: 'c1a5b4ad17c0a4cb',
                  name: 'ingest.step',
                  kind: 5,
                  flags: 1,
                  startTimeUnixNano: '1750000000000250000',
                  endTimeUnixNano: '1750000000001500000',
                  attributes: [
                    { key: 'text', value: { stringValue: 'a' } },
                    { key: 'whole', value: { intValue: '7' } },
                    { key: 'decimal', value: { doubleValue: 1 } },
                  ],
                  links: whole.links,
                  status: { code: 2, message: 'no' },
                },
              ],
            },
          ],
        },
      ],
    });
  });

  test('are sent together, with the headers that the collector wants', async () => {
    const sending = exporter();
    for (let from = 0; from < 300; from++) {
      sending.add(span(from));
    }
    await vi.waitUntil(async () => (await counted())['sent'] === 300, { timeout: 5000 });
    expect(received.map(({ spans }) => spans)).toEqual([128, 128, 44]);
    expect(received[0]?.request.url).toBe('/v1/traces');
    expect(received[0]?.request.headers).toMatchObject({
      authorization: 'Bearer x',
      'content-type': 'application/json',
    });
    await sending.close(1000);
  });

  test('wait for a collector that is overloaded, and are sent again', async () => {
    answer = status(503);
    const sending = exporter();
    sending.add(span(1));
    await vi.waitUntil(() => received.length === 1, { timeout: 5000 });
    answer = status(200);
    await vi.waitUntil(async () => (await counted())['sent'] === 1, { timeout: 10_000 });
    expect(received.map(({ spans }) => spans)).toEqual([1, 1]);
    await sending.close(1000);
  });

  test('that a collector refuses for good are dropped and counted, and it is logged', async () => {
    answer = status(400);
    const sending = exporter();
    sending.add(span(1));
    await vi.waitUntil(async () => (await counted())['dropped'] === 1, { timeout: 5000 });
    expect(lines.join('')).toMatch(/"message":"the trace collector refuses spans".*"status":400/);
    await sending.close(1000);
    expect(received).toHaveLength(1);
  });

  test('that find no room while the collector never answers are dropped and counted', async () => {
    answer = () => undefined;
    const sending = exporter();
    sending.add(span(0));
    await vi.waitUntil(() => received.length === 1, { timeout: 5000 });
    for (let from = 1; from < 3000; from++) {
      sending.add(span(from));
    }
    expect(await counted()).toEqual({ dropped: 3000 - 2048 });
    await sending.close(1);
    expect(await counted()).toEqual({ dropped: 3000 });
  });

  test('that wait are sent at the end', async () => {
    const sending = exporter();
    sending.add(span(1));
    await sending.close(5000);
    expect(await counted()).toEqual({ sent: 1, dropped: 0 });
    sending.add(span(2));
    expect(await counted()).toEqual({ sent: 1, dropped: 1 });
  });

  test('hold up the end no longer than they may', async () => {
    answer = () => undefined;
    const sending = exporter();
    sending.add(span(1));
    // Without the limit it would wait for ten seconds, longer than this test may take.
    await sending.close(1);
    expect(await counted()).toEqual({ dropped: 1 });
  });
});

describe('the settings of traces', () => {
  const schema = settings({});
  const open = (env: Record<string, string>): Tracer =>
    openTracer(
      'ingest',
      '0.1.0',
      readConfig(schema, { KAFKA_BROKERS: 'a:1', INSTANCE: 'i', ...env }),
      {
        metrics,
        log,
      },
    );

  test('switch them off where they name no collector', () => {
    expect(open({ OTEL_TRACES_SAMPLER_ARG: '1', OTEL_SERVICE_NAME: 'x' })).toBe(Tracer.off);
  });

  test('are those that OpenTelemetry knows', async () => {
    const bodies: unknown[] = [];
    server.removeAllListeners('request');
    server.on('request', (request: IncomingMessage, response: ServerResponse) => {
      void (async () => {
        bodies.push([request.url, request.headers['x-key'], await json(request)]);
        response.end();
      })();
    });
    for (const env of [
      {
        OTEL_EXPORTER_OTLP_ENDPOINT: `http://127.0.0.1:${port}/otlp/`,
        OTEL_EXPORTER_OTLP_HEADERS: 'x-key=a%20b',
        OTEL_RESOURCE_ATTRIBUTES: 'deployment.environment=test, service.name=other',
      },
      {
        OTEL_EXPORTER_OTLP_ENDPOINT: 'http://nowhere.invalid:4318',
        OTEL_EXPORTER_OTLP_TRACES_ENDPOINT: `http://127.0.0.1:${port}/traces`,
        OTEL_RESOURCE_ATTRIBUTES: 'service.name=other',
        OTEL_SERVICE_NAME: 'mine',
      },
    ]) {
      const tracer = open(env);
      const spans = tracer.spans('ingest.step');
      spans.root({}, rangeContext('orders', 0, 0n), [], {});
      spans.end();
      await tracer.close(5000);
    }
    const resource = (attributes: Record<string, string>) => ({
      attributes: Object.entries(attributes).map(([key, stringValue]) => ({
        key,
        value: { stringValue },
      })),
    });
    expect(bodies).toMatchObject([
      [
        '/otlp/v1/traces',
        'a b',
        {
          resourceSpans: [
            {
              resource: resource({
                'service.name': 'other',
                'service.version': '0.1.0',
                'service.instance.id': 'i',
                'deployment.environment': 'test',
              }),
            },
          ],
        },
      ],
      [
        '/traces',
        undefined,
        {
          resourceSpans: [
            {
              resource: resource({
                'service.name': 'mine',
                'service.version': '0.1.0',
                'service.instance.id': 'i',
              }),
            },
          ],
        },
      ],
    ]);
  });

  test.each([
    ['OTEL_EXPORTER_OTLP_ENDPOINT', 'collector:4318'],
    ['OTEL_EXPORTER_OTLP_ENDPOINT', 'http://me:canary@collector:4318'],
    ['OTEL_EXPORTER_OTLP_HEADERS', 'canary'],
    ['OTEL_EXPORTER_OTLP_HEADERS', 'key=%canary'],
    ['OTEL_RESOURCE_ATTRIBUTES', 'a=1,,b=2'],
    ['OTEL_TRACES_SAMPLER_ARG', '1.5'],
  ])('%s can not be %s, and shows no secret', (name, value) => {
    expect(() => open({ [name]: value })).toThrow(new RegExp(`${name} must be (?!.*canary)`));
  });
});
