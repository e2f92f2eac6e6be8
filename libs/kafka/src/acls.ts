import { createClient, type KafkaConfig, kafkajs } from './patched-kafkajs.ts';
import type { Grant } from './refusal.ts';

/** A grant to somebody, as Kafka keeps it. */
export interface Acl extends Grant {
  /** `User:alice` */
  readonly principal: string;
  /** Whether the name stands for all that begin with it. */
  readonly prefixed: boolean;
}

const operations = {
  Read: kafkajs.AclOperationTypes.READ,
  Write: kafkajs.AclOperationTypes.WRITE,
  Create: kafkajs.AclOperationTypes.CREATE,
  Alter: kafkajs.AclOperationTypes.ALTER,
  Describe: kafkajs.AclOperationTypes.DESCRIBE,
  DescribeConfigs: kafkajs.AclOperationTypes.DESCRIBE_CONFIGS,
} as const;

const resources = {
  topic: kafkajs.AclResourceTypes.TOPIC,
  group: kafkajs.AclResourceTypes.GROUP,
  'transactional-id': kafkajs.AclResourceTypes.TRANSACTIONAL_ID,
} as const;

/** For tests: users have Kafka's own kafka-acls.sh. Resolves once the brokers go by it. */
export async function addAcls(config: KafkaConfig, acls: readonly Acl[]): Promise<void> {
  await administer(config, async (admin) => {
    const entries = acls.map(entryOf);
    await admin.createAcls({ acl: entries });
    await Promise.all(entries.map((entry) => untilThere(admin, entry, true)));
  });
}

/** For tests. Resolves once the brokers no longer go by it. */
export async function removeAcls(config: KafkaConfig, acls: readonly Acl[]): Promise<void> {
  await administer(config, async (admin) => {
    const entries = acls.map(entryOf);
    await admin.deleteAcls({ filters: entries });
    await Promise.all(entries.map((entry) => untilThere(admin, entry, false)));
  });
}

type KafkajsAdmin = ReturnType<kafkajs.Kafka['admin']>;
type Entry = ReturnType<typeof entryOf>;

function entryOf({ principal, operation, resource, name, prefixed }: Acl) {
  return {
    resourceType: resources[resource],
    resourceName: name,
    resourcePatternType: prefixed
      ? kafkajs.ResourcePatternTypes.PREFIXED
      : kafkajs.ResourcePatternTypes.LITERAL,
    principal,
    host: '*',
    operation: operations[operation],
    permissionType: kafkajs.AclPermissionTypes.ALLOW,
  };
}

/** The controller has answered, and the broker hears of it a little later. */
async function untilThere(admin: KafkajsAdmin, entry: Entry, there: boolean): Promise<void> {
  for (;;) {
    const { resources: found } = await admin.describeAcls(entry);
    if (found.length > 0 === there) {
      return;
    }
  }
}

async function administer(
  config: KafkaConfig,
  work: (admin: KafkajsAdmin) => Promise<void>,
): Promise<void> {
  const admin = createClient(config, { retries: 5, initialRetryTime: 100 }).admin();
  await admin.connect();
  try {
    await work(admin);
  } finally {
    await admin.disconnect();
  }
}
