import { causes, errorKind, errorName, isTlsRefusal } from './error-kind.ts';
import { KafkaError } from './errors.ts';
import type { KafkaConfig } from './patched-kafkajs.ts';

/** What a call needs, in the words of Kafka's access control lists. */
export interface Grant {
  readonly operation: 'Read' | 'Write' | 'Create' | 'Alter' | 'Describe' | 'DescribeConfigs';
  readonly resource: 'topic' | 'group' | 'transactional-id';
  readonly name: string;
}

const resourceOfType: Readonly<Record<string, Grant['resource']>> = {
  TOPIC_AUTHORIZATION_FAILED: 'topic',
  GROUP_AUTHORIZATION_FAILED: 'group',
  TRANSACTIONAL_ID_AUTHORIZATION_FAILED: 'transactional-id',
};

/**
 * A refusal in words that say what to do: which right is missing on what, or what of the connection's
 * settings the brokers don't take. An error that says so already comes back as it is.
 * @param grants all that the refused call needs; those of the kind that was refused are named
 */
export function refused(
  config: Pick<KafkaConfig, 'brokers' | 'sasl'>,
  error: unknown,
  grants: readonly Grant[] = [],
): KafkaError {
  return error instanceof KafkaError
    ? error
    : new KafkaError('REFUSED', explain(config, error, grants), { cause: error });
}

/** @throws KafkaError REFUSED for a refusal, else the error itself */
export async function namingGrants<T>(
  config: Pick<KafkaConfig, 'brokers' | 'sasl'>,
  grants: readonly Grant[],
  call: () => Promise<T>,
): Promise<T> {
  try {
    return await call();
  } catch (error) {
    throw errorKind(error) === 'refused' ? refused(config, error, grants) : error;
  }
}

function explain(
  { brokers, sasl }: Pick<KafkaConfig, 'brokers' | 'sasl'>,
  error: unknown,
  grants: readonly Grant[],
): string {
  const name = errorName(error);
  const at = brokers.join(', ');
  const { code, message } = lastOf(error);
  const user = sasl && 'username' in sasl ? sasl.username : undefined;
  const missing = grants.filter(({ resource }) => resource === resourceOfType[name]);
  const [first] = missing;
  if (first !== undefined) {
    const principal = user === undefined ? 'This service' : `User:${user}`;
    const names = missing.map((grant) => grant.name).join(' or ');
    const command = `kafka-acls.sh --add --allow-principal ${user === undefined ? 'User:…' : `'User:${user}'`} --operation ${first.operation} --${first.resource} '${first.name}'`;
    return `${principal} needs ${first.operation} on ${first.resource} ${names} (${name}): grant what docker/security/kafka-acls.sh lists, or this alone with ${command}`;
  }
  if (name === 'UNSUPPORTED_SASL_MECHANISM' || /mechanism is not supported/.test(message)) {
    return `The brokers at ${at} don't take logins by KAFKA_SASL_MECHANISM ${sasl?.mechanism.toUpperCase() ?? ''}: set it to one that they take`;
  }
  if (/SASL/.test(name)) {
    return `The brokers at ${at} refuse the login of User:${user ?? ''}: check KAFKA_USERNAME, KAFKA_PASSWORD and KAFKA_SASL_MECHANISM, and that the user exists`;
  }
  if (code === 'ERR_SSL_WRONG_VERSION_NUMBER' || code === 'ERR_SSL_PACKET_LENGTH_TOO_LONG') {
    return `What answers at ${at} doesn't speak TLS (${code}): use the brokers' port for TLS, or set KAFKA_SSL to false`;
  }
  if (/ALERT|HANDSHAKE/.test(code)) {
    return `The brokers at ${at} end the TLS handshake (${code}): they may want a certificate of this service, or another one; check KAFKA_CERT and KAFKA_KEY`;
  }
  if (code === 'ERR_TLS_CERT_ALTNAME_INVALID') {
    return `The certificate of a broker is for another name (${message}): use in KAFKA_BROKERS, and in the brokers' advertised.listeners, a name that it is for`;
  }
  if (isTlsRefusal(code)) {
    return `The certificate of the brokers at ${at} can't be verified (${code}): set KAFKA_CA to that of their authority`;
  }
  return `The brokers at ${at} refuse us (${name}): check the credentials, the access rights, and that they are Kafka 2.5 or newer`;
}

function lastOf(error: unknown): { readonly code: string; readonly message: string } {
  const last = causes(error).at(-1);
  const { code } = (last ?? {}) as { code?: unknown };
  return { code: String(code), message: last?.message ?? String(error) };
}
