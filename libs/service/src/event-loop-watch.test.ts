import { expect, test } from 'vitest';
import { EventLoopWatch } from './event-loop-watch.ts';

let now = 0;

function watchWithTicks(): { watch: EventLoopWatch; pass: (milliseconds: number) => void } {
  const watch = new EventLoopWatch(10_000, () => now);
  const pass = (milliseconds: number) => {
    for (const end = now + milliseconds; now < end;) {
      now += 500;
      watch.tick();
    }
  };
  return { watch, pass };
}

test('ticks in time are no stall', () => {
  const { watch, pass } = watchWithTicks();
  pass(60_000);
  expect(watch.stalledMilliseconds()).toBe(0);
});

test('a stall shows while it lasts and for a while after, then no more', () => {
  const { watch, pass } = watchWithTicks();
  now += 20_500;
  expect(watch.stalledMilliseconds()).toBe(20_000);
  pass(9_000);
  expect(watch.stalledMilliseconds()).toBe(20_000);
  pass(2_000);
  expect(watch.stalledMilliseconds()).toBe(0);
  now += 5_500;
  expect(watch.stalledMilliseconds()).toBe(5_000);
});

test('of several stalls the longest shows', () => {
  const { watch, pass } = watchWithTicks();
  now += 8_500;
  watch.tick();
  now += 3_500;
  watch.tick();
  pass(1_000);
  expect(watch.stalledMilliseconds()).toBe(8_000);
});
