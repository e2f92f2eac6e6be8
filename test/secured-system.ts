import { spawnSync } from 'node:child_process';
import { randomBytes } from 'node:crypto';
import { mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { fileURLToPath } from 'node:url';
import { connect, type Kafka, type KafkaConfig } from '@anabranch/kafka';
import { type Acl, addAcls, removeAcls } from '@anabranch/kafka/acls';
import {
  type LocalKafka,
  type LocalPostgres,
  type ServiceName,
  serviceNames,
  ServiceProcess,
  startKafka,
  startPostgres,
} from '@anabranch/servers';
import { Authority } from '@anabranch/servers/certificates';
import pg from 'pg';

const root = fileURLToPath(new URL('../', import.meta.url));
const quiet = { debug() {}, info() {}, warn() {}, error() {} };

/** In every secret and in every record: it may be nowhere but where it belongs. */
export const canary = 'Canary7f3a';

/** How each service logs in, so that each way is tried. */
const mechanisms = {
  ingest: 'scram-sha-512',
  'stream-processor': 'scram-sha-256',
  'batch-processor': 'plain',
  fusion: 'scram-sha-512',
} as const;

export const topic = 'secured-orders';

const schema = {
  type: 'record',
  name: 'Order',
  fields: [
    { name: 'id', type: 'long' },
    { name: 'amount', type: { type: 'bytes', logicalType: 'decimal', precision: 12, scale: 2 } },
    { name: 'note', type: 'string' },
    { name: 'event_time', type: { type: 'long', logicalType: 'timestamp-millis' } },
  ],
};

const definition = `
sources:
  orders:
    topic: ${topic}
    schema: orders.avsc
    event_time: event_time
    idle_timeout: 1s
    split:
      - { name: odd, when: id % 2 = 1, to: batch }
    batch: { every: 1s }
tables:
  notes:
    source: orders
    columns: { id:, note: }
  numbers:
    source: orders
    columns: { id:, number: cast(note as integer) }
  per_minute:
    source: orders
    columns: { amount: }
    window: { tumbling: 1m }
    aggregates: { records: count(*), total: sum(amount) }
`;

/** A Kafka and a Postgres that let nobody in unseen, and the services with the rights of the scripts. */
export class SecuredSystem {
  /** What docker/security/kafka-acls.sh grants. */
  readonly acls: readonly Acl[];
  readonly authority: Authority;
  readonly kafkaServer: LocalKafka;
  readonly postgres: LocalPostgres;
  readonly definition: string;
  readonly #directory: string;
  readonly #passwords: Readonly<Record<string, string>>;
  readonly #running = new Set<ServiceProcess>();
  readonly #logs = new Set<string>();

  static async start(): Promise<SecuredSystem> {
    const directory = mkdtempSync(path.join(tmpdir(), 'anabranch-secured-'));
    const authority = await Authority.make('Anabranch test authority');
    const certificate = await authority.issue('servers', ['127.0.0.1']);
    const names = ['admin', ...serviceNames.map((service) => `anabranch-${service}`)];
    const passwords = Object.fromEntries(
      [...names, 'anabranch_owner', 'anabranch_fusion', 'alice'].map((name) => [
        name,
        `${canary}${randomBytes(8).toString('hex')}`,
      ]),
    );
    const servers = await Promise.all([
      startKafka({
        directory: path.join(directory, 'kafka'),
        security: {
          ca: authority.ca,
          certificate,
          users: Object.fromEntries(names.map((name) => [name, passwords[name] ?? ''])),
          superUser: 'admin',
          // kafkajs renews a login 10 s before its end: every 2 s.
          reauthenticateMilliseconds: 12_000,
        },
      }),
      startPostgres({
        directory: path.join(directory, 'postgres'),
        tls: { ca: authority.ca, ...certificate },
      }),
    ]);
    return new SecuredSystem(directory, authority, passwords, servers);
  }

  private constructor(
    directory: string,
    authority: Authority,
    passwords: Readonly<Record<string, string>>,
    [kafkaServer, postgres]: readonly [LocalKafka, LocalPostgres],
  ) {
    this.#directory = directory;
    this.authority = authority;
    this.#passwords = passwords;
    this.kafkaServer = kafkaServer;
    this.postgres = postgres;
    this.acls = aclsOf(path.join(directory, 'recorded'));
    const files = path.join(directory, 'definition');
    mkdirSync(files);
    writeFileSync(path.join(files, 'orders.avsc'), JSON.stringify(schema));
    this.definition = path.join(files, 'anabranch.yaml');
    writeFileSync(this.definition, definition);
  }

  /** What an administrator does: the topic, the grants of the scripts, the tables as their owner. */
  async setUp(): Promise<void> {
    const kafka = await this.connect('admin');
    await kafka.admin.ensureTopics([{ name: topic, partitions: 2 }]);
    await kafka.close();
    await addAcls(this.configOf('admin'), this.acls);
    await this.query(readFileSync(`${root}docker/security/postgres-roles.sql`, 'utf8'));
    await this.query('CREATE ROLE alice LOGIN; GRANT anabranch_reader TO alice');
    for (const role of ['anabranch_owner', 'anabranch_fusion', 'alice']) {
      await this.query(`ALTER ROLE ${role} PASSWORD '${this.password(role)}'`);
    }
    const { status, output } = this.migrate();
    if (status !== 0) {
      throw new Error(`The owner could not set up the tables: ${output}`);
    }
  }

  /** Runs `main.mjs migrate` of fusion as the owner. */
  migrate(): { status: number | null; output: string } {
    const { status, stdout, stderr } = spawnSync(
      process.execPath,
      [`${root}apps/fusion/dist/main.mjs`, 'migrate'],
      {
        encoding: 'utf8',
        env: {
          PATH: process.env['PATH'],
          ANABRANCH_DEFINITION: this.definition,
          // It speaks to no Kafka.
          KAFKA_BROKERS: '127.0.0.1:1',
          ...this.#databaseSettings('anabranch_owner'),
        },
      },
    );
    return { status, output: stdout + stderr };
  }

  password(name: string): string {
    return this.#passwords[name] ?? '';
  }

  /** As a user of Kafka, or with other settings than its own. */
  configOf(user: string, mechanism: (typeof mechanisms)[ServiceName] = 'plain'): KafkaConfig {
    return {
      brokers: [this.kafkaServer.brokers],
      clientId: 'test',
      logger: quiet,
      ssl: { ca: this.authority.ca },
      sasl: { mechanism, username: user, password: this.password(user) } as NonNullable<
        KafkaConfig['sasl']
      >,
    };
  }

  connect(user: string): Promise<Kafka> {
    return connect(this.configOf(user));
  }

  add(acls: readonly Acl[]): Promise<void> {
    return addAcls(this.configOf('admin'), acls);
  }

  remove(acls: readonly Acl[]): Promise<void> {
    return removeAcls(this.configOf('admin'), acls);
  }

  start(
    service: ServiceName,
    env: Readonly<Record<string, string>> = {},
    instance = 'a',
  ): ServiceProcess {
    const started = new ServiceProcess({
      service,
      instance,
      directory: path.join(this.#directory, 'services'),
      brokers: this.kafkaServer.brokers,
      databaseUrl: '',
      definition: this.definition,
      env: {
        LOG_LEVEL: 'debug',
        KAFKA_SSL: 'true',
        KAFKA_CA_FILE: this.#file('ca.pem', this.authority.ca),
        KAFKA_SASL_MECHANISM: mechanisms[service],
        KAFKA_USERNAME: `anabranch-${service}`,
        KAFKA_PASSWORD_FILE: this.#secretFile(`anabranch-${service}`),
        ...(service === 'fusion' && this.#databaseSettings('anabranch_fusion')),
        ...env,
      },
    });
    this.#running.add(started);
    this.#logs.add(started.logFile);
    return started;
  }

  async stopAll(): Promise<void> {
    const running = [...this.#running];
    this.#running.clear();
    await Promise.all(
      running.filter(({ isRunning }) => isRunning).map((service) => service.stop()),
    );
  }

  /** All that services have written since the servers started. */
  output(): string {
    return [...this.#logs].map((file) => readFileSync(file, 'utf8')).join('\n');
  }

  /** As the superuser. */
  query<T extends object>(text: string): Promise<T[]> {
    return query(this.postgres.url, text);
  }

  /** As a role. */
  queryAs<T extends object>(role: string, text: string): Promise<T[]> {
    return query(this.urlOf(role), text);
  }

  urlOf(role: string): string {
    const url = new URL(this.postgres.url);
    url.username = role;
    url.password = this.password(role);
    return url.href;
  }

  async stop(): Promise<void> {
    await this.stopAll();
    await Promise.all([this.kafkaServer.stop(), this.postgres.stop()]);
    rmSync(this.#directory, { recursive: true, force: true });
  }

  #databaseSettings(role: string): Record<string, string> {
    const { host, pathname } = new URL(this.postgres.url);
    return {
      DATABASE_URL: `postgres://${role}@${host}${pathname}?sslmode=verify-full`,
      DATABASE_PASSWORD_FILE: this.#secretFile(role),
      DATABASE_CA_FILE: this.#file('ca.pem', this.authority.ca),
    };
  }

  #secretFile(name: string): string {
    return this.#file(`${name}.password`, `${this.password(name)}\n`);
  }

  #file(name: string, content: string): string {
    const file = path.join(this.#directory, name);
    writeFileSync(file, content, { mode: 0o600 });
    return file;
  }
}

async function query<T extends object>(url: string, text: string): Promise<T[]> {
  const client = new pg.Client({ connectionString: url });
  client.on('error', () => undefined);
  await client.connect();
  try {
    const result = await client.query<T>(text);
    return result.rows;
  } finally {
    await client.end();
  }
}

/** The grants of docker/security/kafka-acls.sh, by a tool in the place of Kafka's that notes what it is told. */
function aclsOf(folder: string): Acl[] {
  mkdirSync(folder);
  const tool = path.join(folder, 'tool');
  const noted = path.join(folder, 'noted');
  writeFileSync(tool, `#!/bin/sh\nprintf '%s\\n' "$@" END >> ${noted}\n`, { mode: 0o700 });
  const { status, stderr } = spawnSync(
    `${root}docker/security/kafka-acls.sh`,
    [`orders=${topic}`, '--', '--bootstrap-server', 'kafka:9093'],
    { encoding: 'utf8', env: { PATH: process.env['PATH'], KAFKA_ACLS: tool } },
  );
  if (status !== 0) {
    throw new Error(`kafka-acls.sh failed: ${stderr}`);
  }
  return readFileSync(noted, 'utf8').split('END\n').filter(Boolean).flatMap(parseGrant);
}

function parseGrant(text: string): Acl[] {
  const words = text.trimEnd().split('\n');
  const valuesOf = (option: string): string[] =>
    words.flatMap((word, index) => (words[index - 1] === option ? [word] : []));
  const named = (['topic', 'group', 'transactional-id'] as const).flatMap((resource) =>
    valuesOf(`--${resource}`).map((name) => ({ resource, name })),
  );
  if (!words.includes('--add') || !words.includes('--bootstrap-server')) {
    throw new Error(`This grants nothing: ${words.join(' ')}`);
  }
  return valuesOf('--allow-principal').flatMap((principal) =>
    valuesOf('--operation').flatMap((operation) =>
      named.map(({ resource, name }) => ({
        principal,
        operation: operation as Acl['operation'],
        resource,
        name,
        prefixed: valuesOf('--resource-pattern-type').includes('prefixed'),
      })),
    ),
  );
}
