import { createServer, type IncomingMessage, type ServerResponse } from 'node:http';
import type { AddressInfo } from 'node:net';
import { json } from 'node:stream/consumers';
import { onTestFinished } from 'vitest';

/** A span as it was received, its attributes as an object, without their prefix. */
export interface ReceivedSpan {
  readonly service: string;
  readonly traceId: string;
  readonly spanId: string;
  readonly parentSpanId?: string;
  readonly name: string;
  readonly attributes: Readonly<Record<string, string | bigint | number>>;
  readonly links: readonly { readonly traceId: string; readonly spanId: string }[];
  readonly startTimeUnixNano: string;
  readonly endTimeUnixNano: string;
  readonly status: { readonly code?: number; readonly message?: string };
}

type Attribute = {
  readonly key: string;
  readonly value: {
    readonly stringValue?: string;
    readonly intValue?: string;
    readonly doubleValue?: number;
  };
};

interface ExportRequest {
  readonly resourceSpans: readonly {
    readonly resource: { readonly attributes: readonly Attribute[] };
    readonly scopeSpans: readonly {
      readonly spans: readonly (Omit<ReceivedSpan, 'attributes' | 'service'> & {
        readonly attributes: readonly Attribute[];
      })[];
    }[];
  }[];
}

/** Takes OTLP as JSON over HTTP; ends with the test. */
export class TraceCollector {
  readonly spans: ReceivedSpan[] = [];
  requests = 0;
  readonly url: string;
  /** What it does with a request: an HTTP status, or null: it never answers. */
  #answer: number | null;

  static async open(answer: number | null = 200): Promise<TraceCollector> {
    const server = createServer((request, response) => void collector.#take(request, response));
    await new Promise<void>((resolve) => {
      server.listen(0, '127.0.0.1', resolve);
    });
    onTestFinished(() => {
      server.close();
      server.closeAllConnections();
    });
    const { port } = server.address() as AddressInfo;
    const collector = new TraceCollector(`http://127.0.0.1:${port}`, answer);
    return collector;
  }

  private constructor(url: string, answer: number | null) {
    this.url = url;
    this.#answer = answer;
  }

  async #take(request: IncomingMessage, response: ServerResponse): Promise<void> {
    this.requests++;
    if (request.url !== '/v1/traces' || request.headers['content-type'] !== 'application/json') {
      response.writeHead(404).end();
      return;
    }
    const received = (await json(request)) as ExportRequest;
    if (this.#answer === null) {
      return;
    }
    if (this.#answer === 200) {
      for (const { resource, scopeSpans } of received.resourceSpans) {
        const service = String(valuesOf(resource.attributes)['service.name']);
        for (const { spans } of scopeSpans) {
          for (const span of spans) {
            this.spans.push({ ...span, service, attributes: valuesOf(span.attributes) });
          }
        }
      }
    }
    response.writeHead(this.#answer, { 'content-type': 'application/json' }).end('{}');
  }
}

function valuesOf(attributes: readonly Attribute[]): Record<string, string | bigint | number> {
  return Object.fromEntries(
    attributes.map(({ key, value }) => [
      key.replace(/^anabranch\./, ''),
      value.intValue === undefined
        ? (value.doubleValue ?? value.stringValue ?? '')
        : BigInt(value.intValue),
    ]),
  );
}
