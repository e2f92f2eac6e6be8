/** What a failed call to the brokers means for the one who made it. */
export type ErrorKind =
  /** No connection: the brokers are away. Wait, then start over. */
  | 'away'
  /** The group has moved on without us: drop everything, wait for the next generation. */
  | 'generation'
  /** Another producer has our transactional id, or the transaction timed out. */
  | 'fenced'
  /** Not for us, ever: authentication, authorization, version, settings. */
  | 'refused'
  /** The one call can be repeated as it is: nothing has happened. */
  | 'repeat'
  /** A message is larger than its topic allows. */
  | 'too-large'
  /** Anything else: start over from what is committed. */
  | 'unknown';

const kindOfType: Readonly<Record<string, ErrorKind>> = {
  ILLEGAL_GENERATION: 'generation',
  UNKNOWN_MEMBER_ID: 'generation',
  REBALANCE_IN_PROGRESS: 'generation',
  INVALID_PRODUCER_EPOCH: 'fenced',
  TRANSACTION_COORDINATOR_FENCED: 'fenced',
  CONCURRENT_TRANSACTIONS: 'repeat',
  NOT_COORDINATOR_FOR_GROUP: 'repeat',
  GROUP_COORDINATOR_NOT_AVAILABLE: 'repeat',
  GROUP_LOAD_IN_PROGRESS: 'repeat',
  MESSAGE_TOO_LARGE: 'too-large',
  RECORD_LIST_TOO_LARGE: 'too-large',
  TOPIC_AUTHORIZATION_FAILED: 'refused',
  GROUP_AUTHORIZATION_FAILED: 'refused',
  CLUSTER_AUTHORIZATION_FAILED: 'refused',
  TRANSACTIONAL_ID_AUTHORIZATION_FAILED: 'refused',
  SASL_AUTHENTICATION_FAILED: 'refused',
  UNSUPPORTED_SASL_MECHANISM: 'refused',
  UNSUPPORTED_VERSION: 'refused',
  INVALID_TRANSACTION_TIMEOUT: 'refused',
  INVALID_SESSION_TIMEOUT: 'refused',
};

const kindOfName: Readonly<Record<string, ErrorKind>> = {
  KafkaJSConnectionError: 'away',
  KafkaJSConnectionClosedError: 'away',
  KafkaJSRequestTimeoutError: 'away',
  KafkaJSBrokerNotFound: 'away',
  KafkaJSNoBrokerAvailableError: 'away',
  KafkaJSGroupCoordinatorNotFound: 'away',
  KafkaJSMetadataNotLoaded: 'away',
  KafkaJSLockTimeout: 'away',
  KafkaJSSASLAuthenticationError: 'refused',
  KafkaJSServerDoesNotSupportApiKey: 'refused',
  KafkaJSUnsupportedMagicByteInMessageSet: 'refused',
};

/** PRODUCER_FENCED is newer than kafkajs, which gives its number in the message only. */
const producerFenced = /Unknown error code 90$/;

/**
 * OpenSSL's and Node's names of what is wrong with a certificate or a handshake, as far as trying again
 * doesn't mend it.
 */
const tlsRefusal =
  /^(CERT_|UNABLE_TO_(GET|VERIFY|DECRYPT|DECODE)|(DEPTH_ZERO_)?SELF_SIGNED|HOSTNAME_MISMATCH|INVALID_(CA|PURPOSE)|PATH_LENGTH|ERR_TLS_CERT|ERR_SSL_(WRONG_VERSION|PACKET_LENGTH|UNSUPPORTED|NO_PROTOCOLS|.*(ALERT|HANDSHAKE_FAILURE)))/;

/** Whether a connection's error code is of TLS, and for good. */
export function isTlsRefusal(code: unknown): boolean {
  return typeof code === 'string' && tlsRefusal.test(code);
}

/** Looks through the causes, since kafkajs wraps what it gave up retrying. */
export function errorKind(error: unknown): ErrorKind {
  for (const at of causes(error)) {
    const { type, code } = at as { type?: unknown; code?: unknown };
    if (isTlsRefusal(code)) {
      return 'refused';
    }
    const kind = (typeof type === 'string' && kindOfType[type]) || kindOfName[at.name];
    if (kind) {
      return kind;
    }
    if (producerFenced.test(at.message)) {
      return 'fenced';
    }
  }
  return 'unknown';
}

/** The protocol's name of the error, or the class's: short enough for a log's field. */
export function errorName(error: unknown): string {
  const all = causes(error);
  for (const at of all) {
    const { type } = at as { type?: unknown };
    if (typeof type === 'string' && type !== 'KAFKAJS_UNKNOWN_ERROR_CODE') {
      return type;
    }
  }
  return all.at(-1)?.name ?? typeof error;
}

/** The error and its causes; of several that are reported as one (topics that were to be created) the first. */
export function causes(error: unknown): Error[] {
  const found: Error[] = [];
  for (let at = error; at instanceof Error && found.length < 8;) {
    found.push(at);
    const { errors } = at as { errors?: unknown };
    at = at.cause ?? (Array.isArray(errors) ? (errors[0] as unknown) : undefined);
  }
  return found;
}
