import { serviceNames } from '@anabranch/servers';
import type {} from '@anabranch/servers/vitest-containers';
import { beforeAll, expect, inject, onTestFinished, test } from 'vitest';
import { openChain } from '../test/chain.ts';
import { eventually } from '../test/eventually.ts';
import { eventsDefinition } from '../test/events.ts';
import { expectEvents } from '../test/events-oracle.ts';
import { Load } from '../test/load.ts';
import { type BuiltImage, buildImages } from '../tools/build-images.ts';
import { ServiceContainer } from './service-container.ts';

let images: BuiltImage[];

beforeAll(async () => {
  images = await buildImages({ prefix: 'anabranch-test', tag: 'latest', verbose: false });
}, 900_000);

test('each image adds at most 90 MB to its base', () => {
  const large = images.filter(({ ownBytes }) => !(ownBytes > 0 && ownBytes <= 90e6));
  expect(large).toEqual([]);
});

test('the chain in containers: each is killed under load and restarts, and every record counts once', async () => {
  const partitions = 4;
  // The shortest that a broker allows: how long a killed instance keeps its partitions.
  const env = { SESSION_SECONDS: '6' };
  const chain = await openChain({ define: eventsDefinition, partitions });
  const containers: ServiceContainer[] = [];
  onTestFinished(async ({ task }) => {
    if (task.result?.state === 'fail') {
      for (const container of containers) {
        console.error(await container.logTail());
      }
    }
    await Promise.all(containers.map((container) => container.remove()));
  }, 60_000);
  for (const { service, name } of images) {
    const { definition, databaseUrl } = chain;
    const network = inject('containerNetwork');
    containers.push(
      await ServiceContainer.start({ service, image: name, network, definition, databaseUrl, env }),
    );
  }

  const load = new Load(chain, 11);
  await load.progress('stream');
  await load.progress('batch', 500n);
  for (const container of containers) {
    await container.kill();
    await container.restart();
    await load.progress(container.service === 'batch-processor' ? 'batch' : 'stream');
  }
  await load.end();
  await chain.settled();
  await expectEvents(chain);

  for (const container of containers) {
    await eventually(`${container.service} to be healthy`, async () =>
      (await container.health()) === 'ready' ? true : undefined,
    );
    expect(await container.stop(), `exit code of ${container.service}`).toBe(0);
  }
  expect(containers.map(({ service }) => service)).toEqual(serviceNames);
});
