import { readFileSync } from 'node:fs';
import type { Kafka } from '@anabranch/kafka';
import type { Acl } from '@anabranch/kafka/acls';
import { type ServiceName, serviceNames, type ServiceProcess } from '@anabranch/servers';
import { afterAll, afterEach, beforeAll, describe, expect, test } from 'vitest';
import { eventually } from './eventually.ts';
import { canary, SecuredSystem, topic } from './secured-system.ts';

let system: SecuredSystem;

beforeAll(async () => {
  system = await SecuredSystem.start();
  await system.setUp();
}, 120_000);
afterEach(() => system.stopAll());
afterAll(() => system.stop(), 60_000);

/** Cents, by record: what is summed here and in SQL. */
let produced: number[] = [];

/** Records that carry the canary wherever a record has bytes; every 50th is bad in some way. */
async function produce(kafka: Kafka, count: number): Promise<void> {
  const producer = kafka.producer();
  const messages = Array.from({ length: count }, (_, index) => {
    const id = produced.length + index;
    const cents = (id * 37) % 10_000;
    const record = {
      id,
      amount: (cents / 100).toFixed(2),
      note: id % 100 === 1 ? canary : String(id),
      event_time: Date.now(),
    };
    const bad = [
      `{"id": ${canary}`,
      JSON.stringify({ ...record, id: canary }),
      JSON.stringify({ ...record, amount: `1.2${canary}` }),
      JSON.stringify({ ...record, event_time: canary }),
    ];
    const isBad = id % 50 === 25;
    return {
      partition: id % 2,
      key: `${canary}${id}`,
      value: isBad ? (bad[Math.floor(id / 50) % bad.length] ?? '') : JSON.stringify(record),
      headers: { [canary]: Buffer.from(canary) },
      cents: isBad ? Number.NaN : cents,
    };
  });
  await producer.send(
    topic,
    messages.map(({ partition, key, value, headers }) => ({ partition, key, value, headers })),
  );
  await producer.close();
  produced = [...produced, ...messages.map(({ cents }) => cents)];
}

/** Waits until all that was produced is accounted for, and compares the sums. */
async function expectSums(services: readonly ServiceProcess[]): Promise<void> {
  const isSound = (cents: number): boolean => !Number.isNaN(cents);
  const expected = {
    records: produced.length,
    dead: produced.filter((cents) => !isSound(cents)).length,
    sound: produced.filter(isSound).length,
    total: produced.filter(isSound).reduce((sum, cents) => sum + cents, 0),
    // `note` isn't a number in one of a hundred sound records.
    failed: produced.filter((cents, id) => isSound(cents) && id % 100 === 1).length,
  };
  let seen: unknown;
  await eventually(
    'all records to be accounted for',
    async () => {
      const ended = services.find(({ isRunning }) => !isRunning);
      if (ended !== undefined) {
        throw new Error(`${ended.service} has ended: ${(await lastWords(ended)).fatal}`);
      }
      [seen] = await system.query(`
        SELECT
          (SELECT sum(stream_records + batch_records + dead_records)::int FROM anabranch.ledger WHERE branch = 'stream') AS records,
          (SELECT count(*)::int FROM anabranch.dead_letters WHERE table_name = '') AS dead,
          (SELECT sum(records)::int FROM per_minute) AS sound,
          (SELECT (sum(total) * 100)::int FROM per_minute) AS total,
          (SELECT count(*)::int FROM anabranch.dead_letters WHERE table_name = 'numbers') AS failed`);
      return JSON.stringify(seen) === JSON.stringify(expected) ? true : undefined;
    },
    () =>
      `${JSON.stringify(seen)} instead of ${JSON.stringify(expected)}\n${system.output().slice(-3000)}`,
  );
}

async function ready(services: readonly ServiceProcess[]): Promise<void> {
  for (const service of services) {
    let seen: unknown;
    await eventually(
      `${service.service} to be ready`,
      async () => {
        const { ok, details } = await service.readiness();
        seen = details;
        return ok ? true : undefined;
      },
      () => JSON.stringify(seen),
    );
  }
}

function without(service: ServiceName, given: Partial<Acl>): Acl[] {
  const found = system.acls.filter(
    (acl) =>
      acl.principal === `User:anabranch-${service}` &&
      Object.entries(given).every(([name, value]) => acl[name as keyof Acl] === value),
  );
  expect(found.length).toBeGreaterThan(0);
  return found;
}

const anew = 'beginning again from what is committed';

/** Of all logs. */
function linesWith(text: string): string[] {
  return system
    .output()
    .split('\n')
    .filter((line) => line.includes(text));
}

/** What it says when it ends. */
async function lastWords(service: ServiceProcess): Promise<{ code: number | null; fatal: string }> {
  const code = await service.exited;
  const lines = readFileSync(service.logFile, 'utf8')
    .split('\n')
    .filter((line) => line.startsWith('{'))
    .map((line) => JSON.parse(line) as { level: string; message: string });
  return { code, fatal: lines.findLast(({ level }) => level === 'fatal')?.message ?? '' };
}

test('with what the scripts grant, the chain computes as ever, through logins that end and are renewed', async () => {
  const kafka = await system.connect('admin');
  const services = serviceNames.map((service) => system.start(service));
  await ready(services);
  const begun = performance.now();
  await produce(kafka, 1000);
  // Longer than a login lasts.
  do {
    await produce(kafka, 50);
    await expectSums(services);
  } while (performance.now() - begun < 14_000);
  // Otherwise the broker would have ended connections.
  expect(linesWith(anew).filter((line) => /closed/i.test(line))).toEqual([]);
  await kafka.close();
});

test('what an owner has set up is left as it is the second time', () => {
  expect(system.migrate()).toMatchObject({
    status: 0,
    output: expect.stringContaining('3 tables are there') as string,
  });
});

describe('nothing else', () => {
  const group = (service: ServiceName): string => `anabranch.${service}.orders`;
  const attempts = {
    write: async (kafka: Kafka, name: string) => {
      const producer = kafka.producer();
      try {
        await producer.send(name, [{ partition: 0, value: 'x' }]);
      } finally {
        await producer.close();
      }
    },
    read: (kafka: Kafka, name: string, own: string) => join(kafka, name, own),
    join: (kafka: Kafka, other: string) => join(kafka, topic, other),
    offsets: async (kafka: Kafka, other: string) => {
      await kafka.admin.committed(other, [topic]);
    },
    transact: async (kafka: Kafka, transactionalId: string) => {
      const producer = await kafka.transactionalProducer({ transactionalId });
      await producer.close();
    },
    describe: async (kafka: Kafka, name: string) => {
      await kafka.admin.describeTopic(name);
    },
    create: (kafka: Kafka, name: string) => kafka.admin.ensureTopics([{ name, partitions: 1 }]),
    extend: (kafka: Kafka, name: string) => kafka.admin.createPartitions(name, 9),
    delete: (kafka: Kafka, name: string) => kafka.admin.deleteTopics([name]),
  };

  /** Joins a group and reads on; resolves with the first step. */
  async function join(kafka: Kafka, name: string, groupId: string): Promise<void> {
    const { promise, resolve, reject } = Promise.withResolvers<void>();
    const loop = kafka.stepLoop({
      groupId,
      instance: 'intruder',
      transactionalId: 'none',
      topics: [name],
      transactional: false,
      limits: { stepBytes: 1e6, stepMilliseconds: 0, queueHighBytes: 1e6, queueLowBytes: 1e5 },
      idleMilliseconds: 60_000,
      assigned: (partitions) =>
        partitions.map(({ topic: of, partition, earliest }) => ({
          topic: of,
          partition,
          offset: earliest,
        })),
      revoked() {},
      step: (work) => {
        if (work.length > 0) {
          resolve();
        }
        return null;
      },
      onFatal: reject,
    });
    loop.start();
    try {
      await promise;
    } finally {
      await loop.stop(1_000);
    }
  }

  type Attempt = readonly [keyof typeof attempts, string];
  const forbidden: readonly (readonly [ServiceName, readonly Attempt[]])[] = [
    [
      'ingest',
      [
        ['write', topic],
        ['read', `${topic}.stream`],
        ['read', `${topic}.results`],
        ['join', group('fusion')],
        ['join', group('stream-processor')],
        ['offsets', group('batch-processor')],
        ['transact', 'anabranch.stream-processor.orders.a'],
        ['create', 'another'],
        ['extend', topic],
        ['delete', `${topic}.stream`],
      ],
    ],
    [
      'stream-processor',
      [
        ['write', `${topic}.batch`],
        ['write', `${topic}.stream`],
        ['write', topic],
        ['read', topic],
        ['read', `${topic}.batch`],
        ['read', `${topic}.results`],
        ['join', group('ingest')],
        ['offsets', group('batch-processor')],
        ['transact', 'anabranch.batch-processor.orders.a'],
        ['describe', topic],
        ['create', 'another'],
        ['extend', `${topic}.results`],
        ['delete', `${topic}.results`],
      ],
    ],
    [
      'batch-processor',
      [
        ['write', `${topic}.batch`],
        ['write', `${topic}.stream`],
        ['read', topic],
        ['read', `${topic}.stream`],
        ['join', group('stream-processor')],
        ['transact', 'anabranch.ingest.orders.a'],
        ['describe', topic],
        ['create', 'another'],
        ['delete', `${topic}.dead`],
      ],
    ],
    [
      'fusion',
      [
        ['write', `${topic}.results`],
        ['write', `${topic}.dead`],
        ['write', topic],
        ['read', topic],
        ['read', `${topic}.stream`],
        ['join', group('ingest')],
        ['transact', 'anabranch.fusion.orders.a'],
        ['create', 'another'],
        ['extend', topic],
        ['delete', `${topic}.results`],
      ],
    ],
  ];

  test.each(forbidden)('is what %s may do in Kafka', async (service, list) => {
    const kafka = await system.connect(`anabranch-${service}`);
    const others = [];
    for (const [operation, name] of list) {
      const outcome = await attempts[operation](kafka, name, group(service)).then(
        () => 'was allowed',
        (error: unknown) =>
          /needs \w+ on|not authorized|authorization.failed/i.test(String(error))
            ? 'refused'
            : String(error),
      );
      if (outcome !== 'refused') {
        others.push(`${operation} ${name}: ${outcome}`);
      }
    }
    await kafka.close();
    expect(others).toEqual([]);
  });

  test('the attempts themselves are sound: an administrator may do them all', async () => {
    const kafka = await system.connect('admin');
    await attempts.create(kafka, 'another');
    await attempts.write(kafka, 'another');
    await attempts.read(kafka, 'another', 'administrators');
    await attempts.join(kafka, 'administrators');
    await attempts.offsets(kafka, 'administrators');
    await attempts.transact(kafka, 'administrators');
    await attempts.describe(kafka, 'another');
    await attempts.extend(kafka, 'another');
    await attempts.delete(kafka, 'another');
    await kafka.close();
  });

  test.each([
    ['anabranch_fusion', 'CREATE TABLE anabranch.mine ()'],
    ['anabranch_fusion', 'CREATE TABLE public.mine ()'],
    ['anabranch_fusion', 'CREATE SCHEMA mine'],
    ['anabranch_fusion', 'CREATE ROLE mine'],
    ['anabranch_fusion', 'DELETE FROM anabranch.ledger'],
    ['anabranch_fusion', 'TRUNCATE anabranch.frontier'],
    ['anabranch_fusion', 'DROP TABLE anabranch.state_per_minute'],
    ['anabranch_fusion', 'ALTER TABLE anabranch.frontier ADD mine int'],
    ['anabranch_fusion', 'DROP VIEW public.per_minute'],
    ['anabranch_fusion', 'SELECT * FROM pg_authid'],
    ['alice', 'SELECT * FROM anabranch.state_per_minute'],
    ['alice', 'UPDATE anabranch.frontier SET next_offset = 0'],
    ['alice', 'INSERT INTO anabranch.split_rules DEFAULT VALUES'],
    ['alice', 'DELETE FROM anabranch.dead_letters'],
    ['alice', 'DELETE FROM public.notes'],
    ['alice', 'CREATE TABLE public.mine ()'],
    ['alice', 'CREATE TEMPORARY TABLE mine ()'],
  ])('%s may not: %s', async (role, statement) => {
    await expect(system.queryAs(role, statement)).rejects.toMatchObject({ code: '42501' });
  });

  test('a reader reads', async () => {
    for (const name of ['per_minute', 'anabranch.balance', 'anabranch.dead_letters']) {
      const rows = await system.queryAs<{ number: number }>(
        'alice',
        `SELECT count(*)::int AS number FROM ${name}`,
      );
      expect(`${name} ${(rows[0]?.number ?? 0) > 0}`).toBe(`${name} true`);
    }
  });

  test('who is neither of the roles nor a member does not get into the database, nor anybody without TLS', async () => {
    await system.query(`CREATE ROLE mallory LOGIN PASSWORD '${canary}'`);
    const url = new URL(system.urlOf('mallory'));
    url.password = canary;
    const { default: pg } = await import('pg');
    const attempt = async (to: string): Promise<unknown> => {
      const client = new pg.Client({ connectionString: to });
      client.on('error', () => undefined);
      try {
        return await client.connect();
      } finally {
        await client.end().catch(() => undefined);
      }
    };
    await expect(attempt(url.href)).rejects.toMatchObject({ code: '42501' });
    const open = new URL(system.urlOf('anabranch_fusion'));
    open.search = '';
    await expect(attempt(open.href)).rejects.toMatchObject({ code: '28000' });
  });
});

describe('a grant that is missing is named by the service, which ends with 69', () => {
  test.each<[ServiceName, Partial<Acl>, string]>([
    ['ingest', { operation: 'Read', resource: 'topic' }, `Read on topic ${topic} `],
    ['ingest', { operation: 'Read', resource: 'group' }, 'Read on group anabranch.ingest.orders '],
    ['ingest', { operation: 'Write', name: `${topic}.batch` }, `Write on topic ${topic}.batch `],
    [
      'ingest',
      { resource: 'transactional-id' },
      'Write on transactional-id anabranch.ingest.orders.a ',
    ],
    [
      'ingest',
      { operation: 'DescribeConfigs', name: `${topic}.dead` },
      `DescribeConfigs on topic ${topic}.dead `,
    ],
    ['stream-processor', { name: `${topic}.stream` }, `Read on topic ${topic}.stream `],
    ['stream-processor', { name: `${topic}.results` }, `Write on topic ${topic}.results `],
    ['batch-processor', { resource: 'group' }, 'Read on group anabranch.batch-processor.orders '],
    [
      'batch-processor',
      { resource: 'transactional-id' },
      'Write on transactional-id anabranch.batch-processor.orders.a ',
    ],
    ['fusion', { name: `${topic}.dead` }, `Read on topic ${topic}.dead `],
    ['fusion', { operation: 'Describe' }, `Describe on topic ${topic} `],
  ])('%s %o', async (service, lacking, named) => {
    const acls = without(service, lacking);
    await system.remove(acls);
    try {
      const { code, fatal } = await lastWords(system.start(service));
      expect(fatal).toContain(`User:anabranch-${service} needs ${named}`);
      expect(fatal).toContain('docker/security/kafka-acls.sh');
      expect(code).toBe(69);
    } finally {
      await system.add(acls);
    }
  });

  test.each([
    ['INSERT ON anabranch.ledger', 'INSERT ON anabranch.ledger'],
    [
      'SELECT, UPDATE ON anabranch.state_per_minute',
      'SELECT, UPDATE ON anabranch."state_per_minute"',
    ],
    ['USAGE ON SCHEMA anabranch', 'USAGE ON SCHEMA anabranch'],
    ['TEMPORARY ON DATABASE anabranch', 'TEMPORARY ON DATABASE'],
  ])('fusion without %s', async (privilege, named) => {
    await system.query(`REVOKE ${privilege} FROM anabranch_fusion`);
    try {
      const { code, fatal } = await lastWords(system.start('fusion'));
      expect(fatal).toContain(named);
      expect(code).toBe(69);
    } finally {
      await system.query(`GRANT ${privilege} TO anabranch_fusion`);
    }
  });

  test('also when it is taken away at work, and with the grant back the work goes on', async () => {
    const services = new Map(serviceNames.map((service) => [service, system.start(service)]));
    await ready([...services.values()]);
    const kafka = await system.connect('admin');
    const acls = without('ingest', { operation: 'Write', name: `${topic}.stream` });
    try {
      await system.query('REVOKE UPDATE ON anabranch.frontier FROM anabranch_fusion');
      await produce(kafka, 100);
      expect(await lastWords(services.get('fusion')!)).toMatchObject({
        code: 69,
        fatal: expect.stringContaining('needs UPDATE ON anabranch.frontier') as string,
      });
      await system.remove(acls);
      await produce(kafka, 100);
      expect(await lastWords(services.get('ingest')!)).toMatchObject({
        code: 69,
        fatal: expect.stringContaining(`needs Write on topic ${topic}.stream `) as string,
      });
    } finally {
      await system.add(acls);
      await system.query('GRANT UPDATE ON anabranch.frontier TO anabranch_fusion');
    }
    await expectSums([system.start('ingest'), system.start('fusion')]);
    await kafka.close();
  });
});

describe('a connection that is not to be trusted, or not trusted there, ends the service with 69', () => {
  const wrong = `${canary}wrong`;
  const cases: [
    string,
    ServiceName,
    () => Record<string, string> | Promise<Record<string, string>>,
    RegExp,
  ][] = [
    [
      "Kafka's password is wrong (SCRAM)",
      'ingest',
      () => ({ KAFKA_PASSWORD_FILE: '', KAFKA_PASSWORD: wrong }),
      /refuse the login of User:anabranch-ingest/,
    ],
    [
      "Kafka's password is wrong (PLAIN)",
      'batch-processor',
      () => ({ KAFKA_PASSWORD_FILE: '', KAFKA_PASSWORD: wrong }),
      /refuse the login of User:anabranch-batch-processor/,
    ],
    [
      "Kafka's authority is unknown",
      'stream-processor',
      () => ({ KAFKA_CA_FILE: '' }),
      /can't be verified \(.*KAFKA_CA/,
    ],
    [
      "Kafka's certificate is another one's",
      'stream-processor',
      () => ({ KAFKA_BROKERS: system.kafkaServer.brokers.replace('127.0.0.1', 'localhost') }),
      /for another name/,
    ],
    [
      "Postgres' password is wrong",
      'fusion',
      () => ({ DATABASE_PASSWORD_FILE: '', DATABASE_PASSWORD: wrong }),
      /password authentication failed for user "anabranch_fusion"/,
    ],
    [
      "Postgres' authority is unknown",
      'fusion',
      () => ({ DATABASE_CA_FILE: '' }),
      /Postgres can't be verified \(.*DATABASE_CA/,
    ],
    [
      "Postgres' certificate is another one's",
      'fusion',
      () => ({
        DATABASE_URL: system
          .urlOf('anabranch_fusion')
          .replace(/:\/\/.*@127\.0\.0\.1/, '://anabranch_fusion@localhost')
          .replace(/\?.*/, '?sslmode=verify-full'),
      }),
      /for another name/,
    ],
    [
      'Postgres wants TLS',
      'fusion',
      () => ({
        DATABASE_URL: system
          .urlOf('anabranch_fusion')
          .replace(/:[^:]*@/, '@')
          .replace(/\?.*/, ''),
        DATABASE_CA_FILE: '',
      }),
      /no encryption/,
    ],
  ];
  test.each(cases)('%s: %s', async (_, service, env, words) => {
    const { code, fatal } = await lastWords(system.start(service, await env()));
    expect(fatal).toMatch(words);
    expect(code).toBe(69);
  });

  test('settings that do not fit end it with 64', async () => {
    const ended = await lastWords(
      system.start('fusion', {
        KAFKA_SSL: 'false',
        KAFKA_SASL_MECHANISM: '',
        DATABASE_URL: `postgres://x:${canary}@h/d?sslmode=prefer`,
      }),
    );
    expect(ended.code).toBe(64);
    for (const setting of ['KAFKA_SSL', 'KAFKA_SASL_MECHANISM', 'sslmode', 'DATABASE_PASSWORD']) {
      expect(system.output()).toContain(setting);
    }
  });
});

test('Postgres refuses a row: the partition halts, and neither log nor health show the row', async () => {
  const kafka = await system.connect('admin');
  await system.query(`DELETE FROM anabranch.state_notes;
    ALTER TABLE anabranch.state_notes ADD mine int GENERATED ALWAYS AS (note::int) STORED`);
  const services = serviceNames.map((service) => system.start(service));
  await ready(services);
  await produce(kafka, 200);
  const fusion = services.at(-1)!;
  await eventually('the partition to be halted', async () =>
    JSON.stringify(await fusion.readiness()).includes('Postgres refuses the rows')
      ? true
      : undefined,
  );
  for (const service of services) {
    expect(JSON.stringify(await service.readiness())).not.toContain(canary);
    expect(await service.metrics()).not.toContain(canary);
  }
  await kafka.close();
});

test('no secret and no byte of a record is in all that the services have written, at debug level', () => {
  const output = system.output();
  // It was all there to be written.
  for (const written of [
    '"level":"debug"',
    'kafkajs: ',
    'refuse the login',
    'halted a partition',
  ]) {
    expect(output).toContain(written);
  }
  expect(linesWith(canary)).toEqual([]);
});
