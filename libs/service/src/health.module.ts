import 'reflect-metadata';
import { Module } from '@nestjs/common';
import type { DynamicModule } from '@nestjs/common';
import { MetricsPage } from './create-metrics.ts';
import { HealthController } from './health.controller.ts';
import { Lifecycle } from './lifecycle.ts';

/** All that Nest has to do here: three pages. The service itself is wired by plain code. */
@Module({})
export class HealthModule {
  static of(lifecycle: Lifecycle, page: MetricsPage): DynamicModule {
    return {
      module: HealthModule,
      controllers: [HealthController],
      providers: [
        { provide: Lifecycle, useValue: lifecycle },
        { provide: MetricsPage, useValue: page },
      ],
    };
  }
}
