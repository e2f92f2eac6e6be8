import 'reflect-metadata';
import { Controller, Get, Header, ServiceUnavailableException } from '@nestjs/common';
import { Registry } from 'prom-client';
import { MetricsPage } from './create-metrics.ts';
import { Lifecycle } from './lifecycle.ts';
import type { Health } from './lifecycle.ts';
import { printable } from './printable.ts';

/** The answers are made from memory: a probe costs no connection and can't hang on one. */
@Controller()
export class HealthController {
  readonly #lifecycle: Lifecycle;
  readonly #page: MetricsPage;

  constructor(lifecycle: Lifecycle, page: MetricsPage) {
    this.#lifecycle = lifecycle;
    this.#page = page;
  }

  @Get('health/live')
  @Header('cache-control', 'no-store')
  live(): object {
    return this.#answer(this.#lifecycle.live());
  }

  @Get('health/ready')
  @Header('cache-control', 'no-store')
  ready(): object {
    return this.#answer(this.#lifecycle.ready());
  }

  @Get('metrics')
  @Header('content-type', Registry.PROMETHEUS_CONTENT_TYPE)
  async metrics(): Promise<string> {
    return await this.#page.text();
  }

  #answer({ ok, details }: Health): object {
    const body = { ok, state: this.#lifecycle.phase, details: printable(details) };
    if (!ok) {
      throw new ServiceUnavailableException(body);
    }
    return body;
  }
}
