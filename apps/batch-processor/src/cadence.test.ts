import { describe, expect, it } from 'vitest';
import { Cadence } from './cadence.ts';

const minute = 60_000;
const midnight = Date.UTC(2026, 0, 1);
const never = { every: null, cron: null, backlogBytes: null, freshWithin: null };

describe('a run begins', () => {
  it('an interval after the last one began', () => {
    const cadence = new Cadence({ ...never, every: minute }, 0);
    expect(cadence.due(minute - 1, 0)).toBeNull();
    expect(cadence.due(minute, 0)).toBe('every');
    cadence.begun(minute + 5);
    expect(cadence.due(2 * minute + 4, 0)).toBeNull();
    expect(cadence.due(2 * minute + 5, 0)).toBe('every');
  });

  it('when a time of the cron pattern has passed, in UTC, once', () => {
    const cadence = new Cadence({ ...never, cron: '30 2 * * *' }, midnight);
    const due = midnight + 150 * minute;
    expect(cadence.due(due - 1, 0)).toBeNull();
    expect(cadence.due(due + 7 * minute, 0)).toBe('cron');
    cadence.begun(due + 7 * minute);
    expect(cadence.due(due + 8 * minute, 0)).toBeNull();
    expect(cadence.due(due + 24 * 60 * minute, 0)).toBe('cron');
  });

  it('no later than an interval from now when the clock is set back', () => {
    const [noon, eleven] = [12, 11].map((hours) => midnight + hours * 60 * minute) as [
      number,
      number,
    ];
    const cadence = new Cadence({ ...never, every: minute }, noon);
    expect(cadence.due(eleven, 0)).toBeNull();
    expect(cadence.due(eleven + minute, 0)).toBe('every');
    const hourly = new Cadence({ ...never, cron: '0 * * * *' }, noon + 1);
    expect(hourly.due(eleven - 1, 0)).toBeNull();
    expect(hourly.due(eleven, 0)).toBe('cron');
    const fresh = new Cadence({ ...never, freshWithin: 10 * minute }, noon);
    expect(fresh.due(eleven, 0, { since: noon, predictedSeconds: null })).toBe('fresh_within');
  });

  it('when the backlog is large enough', () => {
    const cadence = new Cadence({ ...never, backlogBytes: 1000 }, 0);
    expect(cadence.due(1e12, 999)).toBeNull();
    expect(cadence.due(0, 1000)).toBe('backlog');
  });

  it('in time for the oldest record that waits, by what the run is predicted to take', () => {
    const cadence = new Cadence({ ...never, freshWithin: 10 * minute }, 0);
    const waiting = { since: minute, predictedSeconds: 240 };
    // Four minutes and a margin of one for the run, half a minute for what comes behind it.
    const start = minute + 10 * minute - 5.5 * minute;
    expect(cadence.due(start - 1, 0, waiting)).toBeNull();
    expect(cadence.due(start, 0, waiting)).toBe('fresh_within');
    expect(cadence.due(1e12, 0, null)).toBeNull();
    const long = { since: minute, predictedSeconds: 3600 };
    expect(cadence.due(minute, 0, long)).toBe('fresh_within');
    const unknown = { since: minute, predictedSeconds: null };
    expect(cadence.due(6 * minute - 1, 0, unknown)).toBeNull();
    expect(cadence.due(6 * minute, 0, unknown)).toBe('fresh_within');
  });

  it('at whichever comes first', () => {
    const cadence = new Cadence(
      { every: 10 * minute, cron: '* * * * *', backlogBytes: 5, freshWithin: null },
      midnight,
    );
    expect(cadence.due(midnight + minute, 0)).toBe('cron');
    expect(cadence.due(midnight + minute, 5)).toBe('backlog');
    expect(cadence.due(midnight + minute - 1, 4)).toBeNull();
  });
});
