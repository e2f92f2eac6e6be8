import { readFileSync } from 'node:fs';

// Imported into a service in front of its own code: its clock is off by as many milliseconds as the
// file says that FIRE_CLOCK names. The monotonic clock and the timers stay right, as on a machine
// whose time somebody sets.
const file = process.env['FIRE_CLOCK'] ?? '';
const RealDate = Date;
let offset = 0;

function look(): void {
  try {
    offset = Number(readFileSync(file, 'utf8')) || 0;
  } catch {
    offset = 0;
  }
}

class SteppedDate extends RealDate {
  constructor(...given: unknown[]) {
    if (given.length === 0) {
      super(RealDate.now() + offset);
    } else {
      super(...(given as [number]));
    }
  }

  static override now(): number {
    return RealDate.now() + offset;
  }
}

look();
setInterval(look, 50).unref();
globalThis.Date = SteppedDate as DateConstructor;
