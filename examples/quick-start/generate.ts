/// <reference types="node" />
// Writes batch_data.csv and stream_data.csv, the same bytes every time:
// node examples/quick-start/generate.ts
import { writeFileSync } from 'node:fs';

/** In the past, so that no clock takes these times for future ones. */
const start = Date.parse('2024-11-04T09:00:00Z');
const minute = 60_000;

const batchRows = 4000;
/** From half an hour in front of the stream's begin to two minutes into it: the split's limit. */
const batchFrom = -30 * minute;
const batchTo = 2 * minute;

const streamRows = 3000;
const streamLength = 20 * minute;
/** Neighbours in the file are this much out of order at most: less than the source's disorder. */
const jitter = 3000;

const regions = ['north', 'south', 'east', 'west', 'Ñuble'];
/** A region whose orders come only in bulk. */
const bulkOnly = 'islands';

/** Numbers from 0 to below 1 (mulberry32): integer arithmetic, so the same on every machine. */
function randomNumbers(seed: number): () => number {
  let state = seed;
  return () => {
    state = (state + 0x6d2b79f5) | 0;
    let mixed = Math.imul(state ^ (state >>> 15), state | 1);
    mixed ^= mixed + Math.imul(mixed ^ (mixed >>> 7), mixed | 61);
    return ((mixed ^ (mixed >>> 14)) >>> 0) / 2 ** 32;
  };
}

/** Text of the two files: column1, column2 (decimals or empty), region, event_time (ISO, UTC). */
export function generate(): { batch: string; stream: string } {
  const random = randomNumbers(20_241_104);
  const whole = (from: number, to: number): number => from + Math.floor(random() * (to - from));
  const amount = (nullShare: number): string =>
    random() < nullShare ? '' : (whole(-2000, 50_000) / 100).toFixed(2);
  const row = (time: number, region: string): string =>
    [amount(0.05), amount(0.03), region, new Date(time).toISOString()].join(',');
  const region = (): string => regions[whole(0, regions.length)] ?? bulkOnly;

  const batch: string[] = [];
  for (let i = 0; i < batchRows; i += 1) {
    const time = start + whole(batchFrom, batchTo);
    batch.push(row(time, random() < 0.05 ? bulkOnly : region()));
  }

  const stream: string[] = [];
  for (let i = 0; i < streamRows; i += 1) {
    const now = Math.floor((i * streamLength) / streamRows);
    // One in thirty is late, by three to nine minutes: its window is final by then.
    const late = random() < 1 / 30 ? whole(3 * minute, 9 * minute) : whole(0, jitter);
    stream.push(row(start + Math.max(now - late, batchFrom), region()));
  }

  const header = 'column1,column2,region,event_time';
  const file = (rows: string[]): string => `${[header, ...rows].join('\n')}\n`;
  return { batch: file(batch), stream: file(stream) };
}

if (import.meta.main) {
  const { batch, stream } = generate();
  writeFileSync(new URL('batch_data.csv', import.meta.url), batch);
  writeFileSync(new URL('stream_data.csv', import.meta.url), stream);
}
