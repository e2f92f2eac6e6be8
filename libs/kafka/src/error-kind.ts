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

/** Looks through the causes, since kafkajs wraps what it gave up retrying. */
export function errorKind(error: unknown): ErrorKind {
  for (let at: unknown = error, depth = 0; at instanceof Error && depth < 8; depth++) {
    const { type } = at as { type?: unknown };
    const kind = (typeof type === 'string' && kindOfType[type]) || kindOfName[at.name];
    if (kind) {
      return kind;
    }
    if (producerFenced.test(at.message)) {
      return 'fenced';
    }
    at = at.cause;
  }
  return 'unknown';
}

/** The protocol's name of the error, or the class's: short enough for a log's field. */
export function errorName(error: unknown): string {
  for (let at: unknown = error, depth = 0; at instanceof Error && depth < 8; depth++) {
    const { type } = at as { type?: unknown };
    if (typeof type === 'string' && type !== 'KAFKAJS_UNKNOWN_ERROR_CODE') {
      return type;
    }
    if (at.cause === undefined) {
      return at.name;
    }
    at = at.cause;
  }
  return typeof error;
}
