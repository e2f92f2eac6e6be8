import { integer, settings } from '@anabranch/service';

export const config = settings({
  STEP_MILLISECONDS: integer(1, 60_000)
    .default(50)
    .describe(
      'how long a micro-batch gathers blocks after the first one, in milliseconds: the latency goal',
    ),
  STEP_BYTES: integer(65_536, 268_435_456)
    .default(8_388_608)
    .describe('a micro-batch of this many bytes starts at once: the size'),
});
