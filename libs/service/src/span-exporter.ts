import type { Metrics } from './create-metrics.ts';
import type { Log } from './log.ts';
import type { SpanContext } from './trace-context.ts';

/** Whole numbers as bigint: a key must have one type, whatever its value happens to be. */
export type Attributes = Readonly<Record<string, string | number | bigint>>;

/** A span that has ended. */
export interface Span extends SpanContext {
  readonly parentSpanId: string | null;
  readonly name: string;
  /** Milliseconds since 1970, with decimals. */
  readonly startedAt: number;
  readonly endedAt: number;
  readonly attributes: Attributes;
  readonly links: readonly SpanContext[];
  /** null: it went well. */
  readonly error: string | null;
}

export interface SpanExporterOptions {
  /** Where OTLP is taken as JSON over HTTP: `http://collector:4318/v1/traces`. */
  readonly url: string;
  readonly headers: Readonly<Record<string, string>>;
  /** What all spans of this process have in common. */
  readonly resource: Attributes;
  readonly version: string;
  readonly metrics: Pick<Metrics, 'traceSpansTotal'>;
  readonly log: Pick<Log, 'repeat'>;
}

/** Some 2 MB; at a hundredth of the blocks that is minutes of them. */
const mostWaiting = 2048;
/** Encoding them takes about a millisecond, in which no step runs. */
const mostAtOnce = 128;
const gatherMilliseconds = 1000;
/** OpenTelemetry's default. */
const timeoutMilliseconds = 10_000;
const longestWaitMilliseconds = 30_000;
/** Of HTTP, by the OTLP specification: the same request may succeed later. */
const retriable = new Set([429, 502, 503, 504]);

/**
 * Sends spans to a collector in the background, one request at a time. Nobody ever waits for it: while
 * the collector is away or slow, spans wait in memory, and those that find no room are dropped and counted.
 */
export class SpanExporter {
  readonly #options: SpanExporterOptions;
  readonly #waiting: Span[] = [];
  readonly #end = new AbortController();
  #timer: NodeJS.Timeout | undefined;
  #sending: Promise<void> | undefined;
  #failures = 0;
  #closing = false;

  constructor(options: SpanExporterOptions) {
    this.#options = options;
  }

  add(span: Span): void {
    if (this.#closing || this.#waiting.length >= mostWaiting) {
      this.#count('dropped', 1);
      return;
    }
    this.#waiting.push(span);
    if (this.#timer === undefined && this.#sending === undefined) {
      this.#sendIn(gatherMilliseconds);
    }
  }

  /** Tries once more to send what waits, for so long at the most; what is left then is dropped. */
  async close(milliseconds: number): Promise<void> {
    this.#closing = true;
    clearTimeout(this.#timer);
    const timer = setTimeout(() => {
      this.#end.abort();
    }, milliseconds);
    await this.#sending;
    await this.#sendWaiting();
    clearTimeout(timer);
    this.#count('dropped', this.#waiting.splice(0).length);
  }

  #sendIn(milliseconds: number): void {
    this.#timer = setTimeout(() => {
      this.#timer = undefined;
      this.#sending = this.#sendWaiting().finally(() => {
        this.#sending = undefined;
        if (this.#waiting.length > 0 && !this.#closing) {
          const wait = gatherMilliseconds * 2 ** Math.min(this.#failures, 10);
          this.#sendIn(Math.min(wait, longestWaitMilliseconds));
        }
      });
    }, milliseconds);
    // What waits here is no reason for a process to go on.
    this.#timer.unref();
  }

  /** Until nothing waits any more, or the collector can't take it now. */
  async #sendWaiting(): Promise<void> {
    while (this.#waiting.length > 0 && !this.#end.signal.aborted) {
      const spans = this.#waiting.slice(0, mostAtOnce);
      const outcome = await this.#post(spans);
      if (outcome === 'later') {
        this.#failures++;
        return;
      }
      this.#failures = 0;
      this.#waiting.splice(0, spans.length);
      this.#count(outcome, spans.length);
    }
  }

  async #post(spans: readonly Span[]): Promise<'sent' | 'dropped' | 'later'> {
    const { url, headers, resource, version, log } = this.#options;
    try {
      const response = await fetch(url, {
        method: 'POST',
        headers: { ...headers, 'content-type': 'application/json' },
        body: JSON.stringify(encodeSpans(spans, resource, version)),
        redirect: 'error',
        signal: AbortSignal.any([AbortSignal.timeout(timeoutMilliseconds), this.#end.signal]),
      });
      // It says nothing that is needed, and may be as long as it likes.
      await response.body?.cancel();
      if (response.ok) {
        return 'sent';
      }
      log.repeat('traces', 'warn', 'the trace collector refuses spans', {
        url,
        status: response.status,
      });
      return retriable.has(response.status) ? 'later' : 'dropped';
    } catch (error) {
      log.repeat('traces', 'warn', 'spans could not be sent to the trace collector', {
        url,
        error,
      });
      return 'later';
    }
  }

  #count(fate: 'sent' | 'dropped', spans: number): void {
    this.#options.metrics.traceSpansTotal.inc({ fate }, spans);
  }
}

const consumer = 5;
const failed = 2;
const sampled = 1;

/** An ExportTraceServiceRequest in OTLP's JSON. */
export function encodeSpans(spans: readonly Span[], resource: Attributes, version: string): object {
  return {
    resourceSpans: [
      {
        resource: { attributes: encodeAttributes(resource) },
        scopeSpans: [{ scope: { name: 'anabranch', version }, spans: spans.map(encodeSpan) }],
      },
    ],
  };
}

function encodeSpan(span: Span): object {
  const { traceId, spanId, parentSpanId, name, links, error } = span;
  return {
    traceId,
    spanId,
    ...(parentSpanId !== null && { parentSpanId }),
    name,
    kind: consumer,
    flags: sampled,
    startTimeUnixNano: nanoseconds(span.startedAt),
    endTimeUnixNano: nanoseconds(span.endedAt),
    attributes: encodeAttributes(span.attributes),
    links: links.map((link) => ({ traceId: link.traceId, spanId: link.spanId })),
    status: error === null ? {} : { code: failed, message: error },
  };
}

function encodeAttributes(attributes: Attributes): object[] {
  return Object.entries(attributes).map(([key, value]) => ({ key, value: encodeValue(value) }));
}

function encodeValue(value: string | number | bigint): object {
  switch (typeof value) {
    case 'string':
      return { stringValue: value };
    case 'bigint':
      return { intValue: String(value) };
    default:
      return { doubleValue: value };
  }
}

/** As text: JSON's numbers aren't that long. */
function nanoseconds(milliseconds: number): string {
  return String(BigInt(Math.round(milliseconds * 1000)) * 1000n);
}
