import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { type LocalKafka, startKafka } from '@anabranch/servers';
import { Authority, type Certificate } from '@anabranch/servers/certificates';
import { afterAll, beforeAll, expect, it, onTestFinished } from 'vitest';
import { addAcls } from './acls.ts';
import { connect } from './kafka.ts';
import type { KafkaConfig } from './patched-kafkajs.ts';
import { namingGrants } from './refusal.ts';
import { silentLogger, uniqueName, until } from './testing.ts';

/** kafkajs renews a login 10 s before it ends: here every half second. */
const loginMilliseconds = 10_500;

let directory: string;
let authority: Authority;
let own: Certificate;
let broker: LocalKafka;

beforeAll(async () => {
  directory = mkdtempSync(path.join(tmpdir(), 'anabranch-secured-kafka-'));
  authority = await Authority.make('Anabranch test authority');
  own = await authority.issue('client');
  broker = await startKafka({
    directory,
    security: {
      ca: authority.ca,
      certificate: await authority.issue('broker', ['127.0.0.1']),
      clientCertificates: true,
      users: { admin: 'adminpassword', alice: 'alicepassword' },
      superUser: 'admin',
      reauthenticateMilliseconds: loginMilliseconds,
    },
  });
}, 120_000);
afterAll(async () => {
  await broker.stop();
  rmSync(directory, { recursive: true, force: true });
});

function configOf(username: string, tls: object = own): KafkaConfig {
  return {
    brokers: [broker.brokers],
    clientId: 'test',
    logger: silentLogger,
    ssl: { ca: authority.ca, ...tls },
    sasl: { mechanism: 'scram-sha-512', username, password: `${username}password` },
  };
}

/** Waiting for ever is what a refusal must not look like. */
const patience = () => AbortSignal.timeout(60_000);

it('a broker that wants a certificate of its clients gets it, and refuses others for good', async () => {
  const kafka = await connect(configOf('admin'), patience());
  await kafka.close();
  await expect(connect(configOf('admin', {}), patience())).rejects.toMatchObject({
    code: 'REFUSED',
    message: expect.stringContaining('check KAFKA_CERT and KAFKA_KEY') as string,
  });
});

it('a certificate that has expired is refused for good', async () => {
  const expired = await authority.issue('client', [], -10);
  await expect(connect(configOf('admin', expired), patience())).rejects.toMatchObject({
    code: 'REFUSED',
  });
});

it('a group and a transactional id that may not be used are refused, not looked for for ever', async () => {
  const config = configOf('alice');
  const topic = uniqueName('orders');
  const admin = await connect(configOf('admin'), patience());
  await admin.admin.ensureTopics([{ name: topic, partitions: 1 }]);
  await admin.close();
  await addAcls(configOf('admin'), [
    { principal: 'User:alice', operation: 'Read', resource: 'topic', name: topic, prefixed: false },
  ]);
  const kafka = await connect(config, patience());
  onTestFinished(() => kafka.close());
  await expect(kafka.admin.committed('strangers', [topic])).rejects.toMatchObject({
    code: 'REFUSED',
    message: expect.stringContaining('needs Describe on group strangers') as string,
  });
  await expect(
    namingGrants(
      config,
      [{ operation: 'Write', resource: 'transactional-id', name: 'strange' }],
      () => kafka.transactionalProducer({ transactionalId: 'strange' }),
    ),
  ).rejects.toMatchObject({
    code: 'REFUSED',
    message: expect.stringContaining('needs Write on transactional-id strange') as string,
  });
});

it('a loop works on when its login ends, since it renews it in time', async () => {
  const faults: unknown[] = [];
  const logger = {
    ...silentLogger,
    warn: (message: string, fields?: object) => faults.push(fields),
  };
  const kafka = await connect({ ...configOf('admin'), logger }, patience());
  const topic = uniqueName('orders');
  await kafka.admin.ensureTopics([{ name: topic, partitions: 1 }]);
  let seen = 0n;
  const loop = kafka.stepLoop({
    groupId: uniqueName('group'),
    instance: 'a',
    transactionalId: uniqueName('id'),
    topics: [topic],
    transactional: true,
    limits: { stepBytes: 1e6, stepMilliseconds: 0, queueHighBytes: 1e6, queueLowBytes: 1e5 },
    idleMilliseconds: 100,
    assigned() {},
    revoked() {},
    step: (work) => ({
      messages: [],
      offsets: work.map(({ topic: of, partition, next }) => ({
        topic: of,
        partition,
        offset: next,
      })),
      committed() {
        seen = work[0]?.next ?? seen;
      },
    }),
    onFatal(error) {
      throw error;
    },
  });
  loop.start();
  await until('the group is joined', () => loop.state().joined);
  faults.length = 0;
  const begun = performance.now();
  const producer = kafka.producer();
  let sent = 0n;
  while (performance.now() - begun < loginMilliseconds + 1_500) {
    await producer.send(topic, [{ partition: 0, value: 'x' }]);
    sent++;
    await until('what was sent is processed', () => seen === sent);
  }
  // A busy machine may cause others.
  expect(faults.filter((fault) => /closed/i.test(JSON.stringify(fault)))).toEqual([]);
  await loop.stop(5_000);
  await producer.close();
  await kafka.close();
}, 120_000);
