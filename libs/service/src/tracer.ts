import type { Metrics } from './create-metrics.ts';
import type { Log } from './log.ts';
import { messageOf } from './printable.ts';
import type { CommonConfig } from './settings.ts';
import { type Attributes, SpanExporter } from './span-exporter.ts';
import type { StageCost } from './stage-clock.ts';
import {
  childContext,
  formatTraceparent,
  isSampled,
  parseTraceparent,
  rangeContext,
  type SpanContext,
} from './trace-context.ts';

/** OpenTelemetry's default; a run may be over thousands of blocks. */
export const mostLinks = 128;

/** The traces of one service. Where they are off, it still hands on what comes in. */
export class Tracer {
  static readonly off = new Tracer(null, 0);
  readonly #exporter: Pick<SpanExporter, 'add' | 'close'> | null;
  readonly #ratio: number;

  /** @param ratio of the blocks, 0 to 1: for ingest, which decides for all */
  constructor(exporter: Pick<SpanExporter, 'add' | 'close'> | null, ratio: number) {
    this.#exporter = exporter;
    this.#ratio = ratio;
  }

  /** The trace of a range that ingest makes a block of; null for most. */
  sample(source: string, partition: number, from: bigint): SpanContext | null {
    if (this.#exporter === null || this.#ratio === 0) {
      return null;
    }
    const context = rangeContext(source, partition, from);
    return isSampled(context.traceId, this.#ratio) ? context : null;
  }

  /** @param name of the spans */
  spans(name: string): StepSpans {
    return new StepSpans(name, this.#exporter);
  }

  /** @param milliseconds that it may take */
  async close(milliseconds: number): Promise<void> {
    await this.#exporter?.close(milliseconds);
  }
}

/** As the service's settings say: `Tracer.off` where they name no collector. */
export function openTracer(
  service: string,
  version: string,
  config: CommonConfig,
  { metrics, log }: { readonly metrics: Metrics; readonly log: Log },
): Tracer {
  const { OTEL_EXPORTER_OTLP_ENDPOINT: base, OTEL_EXPORTER_OTLP_TRACES_ENDPOINT: whole } = config;
  const url = whole ?? (base && `${base.replace(/\/$/, '')}/v1/traces`);
  if (url === undefined) {
    return Tracer.off;
  }
  const resource = {
    'service.name': `anabranch.${service}`,
    'service.version': version,
    'service.instance.id': config.INSTANCE,
    ...config.OTEL_RESOURCE_ATTRIBUTES,
    ...(config.OTEL_SERVICE_NAME && { 'service.name': config.OTEL_SERVICE_NAME }),
  };
  const headers = config.OTEL_EXPORTER_OTLP_HEADERS ?? {};
  const exporter = new SpanExporter({ url, headers, resource, version, metrics, log });
  return new Tracer(exporter, config.OTEL_TRACES_SAMPLER_ARG);
}

/** What every span says of the range that it is about. */
export function rangeAttributes({
  source,
  partition,
  from,
  to,
}: {
  readonly source: string;
  readonly partition: number;
  readonly from: bigint;
  readonly to: bigint;
}): Attributes {
  return {
    'anabranch.source': source,
    'anabranch.partition': BigInt(partition),
    'anabranch.from': from,
    'anabranch.to': to,
  };
}

interface OpenSpan {
  readonly context: SpanContext;
  readonly parentSpanId: string | null;
  readonly links: readonly SpanContext[];
  readonly attributes: Attributes;
}

/**
 * The spans of the step under way. A step has many blocks or partials, which all begin and end with it;
 * each is known by an object of its own.
 */
export class StepSpans {
  readonly #name: string;
  readonly #exporter: Pick<SpanExporter, 'add'> | null;
  readonly #open = new Map<object, OpenSpan>();
  readonly #traceparents = new Map<object, string>();
  /** Milliseconds since 1970, and since the process began. */
  #startedAt = 0;
  #begunAt = 0;

  constructor(name: string, exporter: Pick<SpanExporter, 'add'> | null) {
    this.#name = name;
    this.#exporter = exporter;
  }

  /** Runs a step. What the former one has left open wasn't committed; what this one leaves open may still be. */
  async during<T>(step: () => Promise<T>): Promise<T> {
    this.abandon();
    this.#startedAt = Date.now();
    this.#begunAt = performance.now();
    try {
      return await step();
    } catch (error) {
      this.fail(error);
      throw error;
    }
  }

  /** The first span of a trace. */
  root(
    key: object,
    context: SpanContext,
    links: readonly SpanContext[],
    attributes: Attributes,
  ): void {
    this.#open.set(key, { context, parentSpanId: null, links, attributes });
    this.#traceparents.set(key, formatTraceparent(context));
  }

  /**
   * A span under the first of these, with links to the others.
   * @param parents traceparents; none: no span
   * @param what tells it from other spans under the same one
   */
  child(key: object, parents: readonly string[], what: string, attributes: Attributes): void {
    const [first] = parents;
    const parent = first === undefined ? null : parseTraceparent(first);
    if (first === undefined || parent === null) {
      return;
    }
    if (this.#exporter === null || !parent.sampled) {
      this.#traceparents.set(key, first);
      return;
    }
    const context = childContext(parent, what);
    const links = parents.slice(1, 1 + mostLinks).flatMap((other) => parseTraceparent(other) ?? []);
    this.#open.set(key, { context, parentSpanId: parent.spanId, links, attributes });
    this.#traceparents.set(key, formatTraceparent(context));
  }

  /** What goes on with the messages that are made of a block or partial. */
  traceparent(key: object): string | undefined {
    return this.#traceparents.get(key);
  }

  /**
   * All that are open, or those of the keys, have gone well.
   * @param cost of the whole step
   */
  end(cost: StageCost | null = null, keys: Iterable<object> = [...this.#open.keys()]): void {
    if (this.#open.size > 0) {
      this.#close(keys, null, cost === null ? {} : costAttributes(cost));
    }
    this.#traceparents.clear();
  }

  /** All that are open, or those of the keys, have failed. */
  fail(error: unknown, keys: Iterable<object> = [...this.#open.keys()]): void {
    if (this.#open.size > 0) {
      this.#close(keys, messageOf(error), {});
    }
  }

  /** What is open was for nothing: the step isn't committed, and is done again by someone. */
  abandon(): void {
    this.fail('The step was not committed: the log of the service says why.');
    this.#traceparents.clear();
  }

  #close(keys: Iterable<object>, error: string | null, more: Attributes): void {
    const endedAt = this.#startedAt + performance.now() - this.#begunAt;
    for (const key of keys) {
      const span = this.#open.get(key);
      if (span === undefined) {
        continue;
      }
      this.#open.delete(key);
      const { attributes, links } = span;
      // Its own id is for whoever commits it: two spans with one id would be one.
      const own =
        error === null
          ? span
          : {
              context: childContext(span.context, `failed ${this.#startedAt} ${this.#begunAt}`),
              parentSpanId: span.parentSpanId ?? span.context.spanId,
            };
      this.#exporter?.add({
        ...own.context,
        parentSpanId: own.parentSpanId,
        name: this.#name,
        startedAt: this.#startedAt,
        endedAt,
        attributes: { ...attributes, ...more },
        links,
        error,
      });
    }
  }
}

function costAttributes(cost: StageCost): Attributes {
  return {
    'anabranch.step.bytes': BigInt(cost.bytes),
    'anabranch.step.records': BigInt(cost.records),
    'anabranch.step.rows': BigInt(cost.rows),
    'anabranch.step.load_seconds': cost.load,
    'anabranch.step.preprocess_seconds': cost.preprocess,
    'anabranch.step.process_seconds': cost.process,
    'anabranch.step.store_seconds': cost.store,
  };
}
