import { expect, it } from 'vitest';
import { readOptions } from './options.ts';

it('measures all workloads when nothing else is asked for, and none of them when it is', () => {
  expect(readOptions([])?.workloads).toEqual(['w1', 'w1k', 'w2', 'w2b']);
  expect(readOptions(['--growth', 'keys,tables'])).toMatchObject({
    workloads: null,
    growth: ['keys', 'tables'],
    peers: null,
    backfill: false,
  });
  expect(readOptions(['--peers', 'flink', '--workload', 'w1'])?.peers).toEqual({
    names: ['flink'],
    workloads: ['w1'],
  });
  expect(readOptions(['--full'])).toMatchObject({
    workloads: null,
    peers: { names: ['node', 'flink'], workloads: ['w2', 'w1'] },
    growth: ['partitions', 'keys', 'tables', 'rows', 'instances'],
    backfill: true,
    latency: true,
  });
});

it.each([
  [['--workload', 'w3'], /--workload is one of w1, .*: not w3/],
  [['--peers', 'spark'], /--peers is one of node, flink, all: not spark/],
  [['--peers', 'node', '--workload', 'w2b'], /--workload is one of w2, w1, all: not w2b/],
  [['--records', '12.5'], /--records is a whole number from 1000 on: not 12.5/],
  [['--set', 'broker.X=1'], /--set is SERVICE.NAME=VALUE/],
  [['--fast'], /Unknown option '--fast'/],
])('says what is wrong with %j', (args, message) => {
  expect(() => readOptions(args)).toThrow(message);
});

it('hands settings and profiles to the service that is named', () => {
  const { settings } = readOptions(['--set', 'fusion.A=b=c', '--profile', '/tmp/p']) ?? {};
  expect(settings?.fusion).toEqual({
    NODE_OPTIONS: '--cpu-prof --cpu-prof-dir=/tmp/p/fusion',
    A: 'b=c',
  });
  expect(settings?.ingest?.['NODE_OPTIONS']).toContain('/tmp/p/ingest');
});
