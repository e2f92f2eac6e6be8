import { Test } from '@nestjs/testing';
import { expect, test } from 'vitest';
import { createMetrics } from './create-metrics.ts';
import { EventLoopWatch } from './event-loop-watch.ts';
import { HealthController } from './health.controller.ts';
import { HealthModule } from './health.module.ts';
import { Lifecycle } from './lifecycle.ts';
import { Log } from './log.ts';

test("Nest can build the module: the decorators' metadata survived the compiler", async () => {
  const lifecycle = new Lifecycle({
    log: new Log({ service: 's', instance: 'i' }),
    watch: new EventLoopWatch(1000),
    shutdownSeconds: 1,
    close: () => Promise.resolve(),
  });
  const module = await Test.createTestingModule({
    imports: [HealthModule.of(lifecycle, createMetrics('s', '1').page)],
  }).compile();
  const controller = module.get(HealthController);
  expect(controller.live()).toEqual({ ok: true, state: 'starting', details: {} });
  expect(await controller.metrics()).toContain('anabranch_info');
});
