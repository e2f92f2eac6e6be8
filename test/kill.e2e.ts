import { serviceNames } from '@anabranch/servers';
import { expect, test } from 'vitest';
import { openChain } from './chain.ts';
import { eventsDefinition } from './events.ts';
import { expectEvents } from './events-oracle.ts';
import { Load } from './load.ts';

const partitions = 4;
/** The shortest that a broker allows: how long a killed instance keeps its partitions. */
const env = { SESSION_SECONDS: '6' };

test('each service is killed under load, then all four at once: every record counts once', async () => {
  const chain = await openChain({ define: eventsDefinition, partitions, env });
  const services = chain.startAll();
  const load = new Load(chain, 2);
  await load.progress('stream');
  await load.progress('batch', 500n);
  for (const name of serviceNames) {
    const branch = name === 'batch-processor' ? 'batch' : 'stream';
    await chain.kill(services[name]);
    services[name] = chain.start(name);
    await load.progress(branch);
  }
  await Promise.all(serviceNames.map((name) => chain.kill(services[name])));
  for (const name of serviceNames) {
    services[name] = chain.start(name);
  }
  await load.progress('stream');
  await load.progress('batch');
  await load.end();
  await chain.settled();
  await expectEvents(chain);
});

test('two instances of each service are restarted one after the other under load: every record counts once', async () => {
  const chain = await openChain({ define: eventsDefinition, partitions, env });
  const instances = ['a', 'b'] as const;
  const services = { a: chain.startAll('a'), b: chain.startAll('b') };
  const load = new Load(chain, 3);
  await chain.ready(instances.flatMap((instance) => Object.values(services[instance])));
  await load.progress('stream');
  for (const instance of instances) {
    await Promise.all(
      serviceNames.map(async (name) => {
        const code = await chain.stop(services[instance][name]);
        expect({ name, instance, code }).toEqual({ name, instance, code: 0 });
        services[instance][name] = chain.start(name, instance);
        await chain.ready([services[instance][name]]);
      }),
    );
    await load.progress('stream');
  }
  await load.progress('stream');
  await load.progress('batch');
  await load.end();
  await chain.settled();
  await expectEvents(chain);
});

test('a batch run that is killed between its slices restarts without double effect', async () => {
  const define: typeof eventsDefinition = (source, topic) => {
    const files = eventsDefinition(source, topic);
    const yaml = files['anabranch.yaml']
      .replace('default_branch: stream', 'default_branch: batch')
      .replace('every: 1s', 'every: 4s');
    return { ...files, 'anabranch.yaml': yaml };
  };
  const chain = await openChain({ define, partitions, env: { ...env, SLICE_BYTES: '1048576' } });
  const { promise: begun, resolve: runBegins } = Promise.withResolvers<string>();
  const batch = chain.start('batch-processor', 'a', {
    onLog: (line) => {
      if (line.message === 'run begun' && Number(line['slices']) >= 3) {
        runBegins(String(line['run']));
      }
    },
  });
  for (const name of serviceNames.filter((service) => service !== 'batch-processor')) {
    chain.start(name);
  }
  const load = new Load(chain, 4);
  const run = await begun;
  await load.progress('batch', 1n);
  batch.pause();
  await load.end();
  await chain.kill(batch);
  const recorded = `SELECT finished_at, records::int FROM anabranch.runs WHERE run = $1`;
  const [killed] = await chain.query<{ finished_at: Date | null; records: number }>(recorded, [
    run,
  ]);
  expect(killed, 'the run must have stored a slice').toBeDefined();
  expect(killed?.finished_at, 'and must not have ended').toBeNull();
  chain.start('batch-processor');
  await chain.settled();
  await expectEvents(chain, ['bulk', 'large', 'refunds', 'aged', 'late', 'default']);
});
