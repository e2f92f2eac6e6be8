export type PostgresErrorCode =
  | 'UNREACHABLE'
  | 'TOO_OLD'
  | 'OUTCOME_UNKNOWN'
  | 'MIGRATION_CHANGED'
  | 'MIGRATION_NEWER'
  | 'TABLE_CHANGED'
  | 'NAME_TAKEN'
  | 'FENCED'
  | 'NOT_PERMITTED'
  /** TLS: the server doesn't speak it, or its certificate can't be verified. */
  | 'NOT_TRUSTED';

export class PostgresError extends Error {
  override readonly name = 'PostgresError';
  readonly code: PostgresErrorCode;

  constructor(code: PostgresErrorCode, message: string, options?: ErrorOptions) {
    super(message, options);
    this.code = code;
  }
}

/** SQLSTATE of an error from the server, `ECONNREFUSED` and the like of one from the network. */
export function errorCode(error: unknown): string | undefined {
  const code = (error as { code?: unknown } | null | undefined)?.code;
  return typeof code === 'string' ? code : undefined;
}

/** Whether Postgres ended a transaction for the sake of another: it may be repeated at once. */
export function isCollision(error: unknown): boolean {
  return ['40001', '40P01'].includes(errorCode(error) ?? '');
}

/**
 * Whether the same transaction can be tried again and has changed nothing: a deadlock, a
 * serialization failure, a lock or statement timeout.
 */
export function isRetriable(error: unknown): boolean {
  return isCollision(error) || ['55P03', '57014'].includes(errorCode(error) ?? '');
}

/**
 * Why Postgres refuses data, without the data: its messages of class 22 quote the value that doesn't fit,
 * and a log or a health page must not hold it.
 */
export function refusalReason(error: unknown): string {
  const { message } = error as Error;
  const code = errorCode(error) ?? '';
  return code.startsWith('22')
    ? `${message.replace(/"[^]*"/, '"…"').replace(/: [^"]*$/, ': …')} (${code})`
    : message;
}

/**
 * What is wrong with the connection's TLS, as far as waiting doesn't mend it, in words that say what to
 * do; undefined: nothing.
 */
export function tlsFault(error: unknown): string | undefined {
  const code = errorCode(error) ?? '';
  const message = error instanceof Error ? error.message : '';
  if (message === 'The server does not support SSL connections') {
    return 'Postgres does not speak TLS: set its `ssl` to on, or DATABASE_SSL to false';
  }
  if (code === 'ERR_TLS_CERT_ALTNAME_INVALID') {
    return `The certificate of Postgres is for another name (${message}): use in DATABASE_URL a name that it is for`;
  }
  if (/^ERR_SSL_.*(ALERT|HANDSHAKE_FAILURE)/.test(code)) {
    return `Postgres ends the TLS handshake (${code}): it may want a certificate of this service, or another one; check DATABASE_CERT and DATABASE_KEY`;
  }
  return /^(CERT_|UNABLE_TO_(GET|VERIFY|DECRYPT|DECODE)|(DEPTH_ZERO_)?SELF_SIGNED|INVALID_(CA|PURPOSE)|PATH_LENGTH|ERR_TLS_CERT)/.test(
    code,
  )
    ? `The certificate of Postgres can't be verified (${code}): set DATABASE_CA to that of its authority`
    : undefined;
}

/** Whether Postgres is away or unable to work for now: waiting helps, another statement doesn't. */
export function isUnavailable(error: unknown): boolean {
  const code = errorCode(error);
  if (code === undefined) {
    // pg reports a lost connection without a code.
    return (
      error instanceof Error &&
      /^(Connection terminated|timeout expired|Client (has encountered|was closed))/.test(
        error.message,
      )
    );
  }
  return (
    /^(08|53|57P|58)/.test(code) ||
    // The session idled in a transaction; the server is a standby, for now.
    ['25P03', '25006'].includes(code) ||
    [
      'ECONNREFUSED',
      'ECONNRESET',
      'EPIPE',
      'ETIMEDOUT',
      'ENOTFOUND',
      'EAI_AGAIN',
      'EHOSTUNREACH',
      'ENETUNREACH',
    ].includes(code)
  );
}
