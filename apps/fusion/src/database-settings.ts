import {
  certificate,
  flag,
  type SettingValues,
  secret,
  tlsFaults,
  type TlsOptions,
  tlsOptions,
} from '@anabranch/service';

/** How to reach and log in to Postgres. */
export const databaseSettings = {
  DATABASE_URL: secret().describe(
    'the Postgres to write to, as postgres://user:password@host:port/database',
  ),
  DATABASE_PASSWORD: secret()
    .optional()
    .describe('the password of the user in DATABASE_URL, where it is not in there'),
  DATABASE_SSL: flag()
    .optional()
    .describe(
      'whether to speak TLS with Postgres, its certificate and name verified; by default as sslmode in DATABASE_URL says, without it not',
    ),
  DATABASE_CA: certificate()
    .optional()
    .describe("the certificate authority of Postgres, in PEM; without it the system's"),
  DATABASE_CERT: certificate()
    .optional()
    .describe('the certificate by which fusion identifies itself to Postgres, in PEM'),
  DATABASE_KEY: secret().optional().describe('the private key of DATABASE_CERT, in PEM'),
  DATABASE_SSL_INSECURE_SKIP_VERIFY: flag()
    .default(false)
    .describe('true: whoever answers is taken for Postgres, so TLS protects from nobody'),
};

interface DatabaseConfig {
  readonly DATABASE_URL: string;
  readonly DATABASE_PASSWORD?: string | undefined;
  readonly DATABASE_SSL?: boolean | undefined;
  readonly DATABASE_SSL_INSECURE_SKIP_VERIFY: boolean;
}

/** What libpq's sslmode says, as far as it can be kept: verified, or not spoken at all. */
const sslModes: Readonly<Record<string, boolean>> = {
  disable: false,
  // They ask for less than they get here; refusing them would only make their users turn to less.
  require: true,
  'verify-ca': true,
  'verify-full': true,
};

/** Parameters of a URL that Postgres' clients take, and what to set in their place. */
const replaced: Readonly<Record<string, string>> = {
  ssl: 'set DATABASE_SSL',
  sslrootcert: 'set DATABASE_CA_FILE',
  sslcert: 'set DATABASE_CERT_FILE',
  sslkey: 'set DATABASE_KEY_FILE',
  uselibpqcompat: 'leave it out',
};

/** What doesn't fit among the settings of the database; no line shows a secret. */
export function databaseFaults(values: SettingValues): string[] {
  const { DATABASE_URL: text, DATABASE_SSL: isOn } = values;
  if (typeof text !== 'string') {
    return tlsFaults('DATABASE', values, undefined);
  }
  const url = URL.parse(text);
  if (url === null || !/^postgres(ql)?:$/.test(url.protocol)) {
    return ['DATABASE_URL must be as postgres://user:password@host:port/database'];
  }
  const faults = Object.entries(replaced)
    .filter(([name]) => url.searchParams.has(name))
    .map(([name, remedy]) => `DATABASE_URL has ${name}, which is not taken: ${remedy} instead`);
  const mode = url.searchParams.get('sslmode');
  if (mode !== null && sslModes[mode] === undefined) {
    faults.push(
      `sslmode in DATABASE_URL must be verify-full or disable: ${
        mode === 'no-verify'
          ? 'only DATABASE_SSL_INSECURE_SKIP_VERIFY=true turns verification off'
          : 'what is between is neither safe nor simple'
      }`,
    );
  } else if (mode !== null && typeof isOn === 'boolean' && sslModes[mode] !== isOn) {
    faults.push(
      `DATABASE_SSL is ${isOn}, and DATABASE_URL says sslmode=${mode}: leave one of them`,
    );
  }
  if (values['DATABASE_PASSWORD'] !== undefined && url.password !== '') {
    faults.push('DATABASE_URL has a password, and DATABASE_PASSWORD is set: leave one of them');
  }
  return [...faults, ...tlsFaults('DATABASE', values, isOn ?? sslModes[mode ?? ''] ?? false)];
}

/** What the settings say about the connection to Postgres, as its client takes it. */
export function databaseConnection(config: DatabaseConfig): {
  readonly url: string;
  readonly ssl: false | TlsOptions;
} {
  const url = new URL(config.DATABASE_URL);
  const mode = url.searchParams.get('sslmode') ?? '';
  url.searchParams.delete('sslmode');
  if (config.DATABASE_PASSWORD !== undefined) {
    // The setter leaves a percent sign as it is.
    url.password = encodeURIComponent(config.DATABASE_PASSWORD);
  }
  return {
    url: url.href,
    ssl: (config.DATABASE_SSL ?? sslModes[mode] ?? false) && tlsOptions('DATABASE', { ...config }),
  };
}

/** What an operator should hear of at every start, though it is allowed. */
export function databaseWarnings(config: DatabaseConfig): string[] {
  return config.DATABASE_SSL_INSECURE_SKIP_VERIFY
    ? [
        'DATABASE_SSL_INSECURE_SKIP_VERIFY is on: whoever answers in place of Postgres can read and change everything',
      ]
    : [];
}
