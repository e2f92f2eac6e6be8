import { hostname } from 'node:os';
import { z } from 'zod';
import { tlsFaults, type TlsOptions, tlsOptions } from './tls-settings.ts';
import { logFormats, logLevels } from './log.ts';

/** Holds a mark for each setting whose value may never be shown. */
const secrets = z.registry<{ secret: true }>();

/** Whether a setting was made with `secret`, whatever was done to it since. */
export function isSecret(made: z.core.$ZodType): boolean {
  // Not `has`, which doesn't know the copies that `describe` and the checks make.
  if (secrets.get(made) !== undefined) {
    return true;
  }
  const { innerType, in: input } = made._zod.def as Wrapper;
  return [innerType, input].some((inner) => inner !== undefined && isSecret(inner));
}

/** Of optional, default and the like; of a transformation. */
interface Wrapper {
  readonly innerType?: z.core.$ZodType;
  readonly in?: z.core.$ZodType;
}

/**
 * A setting's text, turned into its value.
 * @param expects completes "PORT must be …"
 * @param parse gives undefined for a text that it doesn't take
 */
export function setting<T>(expects: string, parse: (text: string) => T | undefined) {
  return z.string().transform((input, context): T => {
    const value = parse(input.trim());
    if (value === undefined) {
      context.addIssue({ code: 'custom', message: `must be ${expects}`, input });
      return z.NEVER;
    }
    return value;
  });
}

/** Text without the blanks around it; not only blanks, and matching the pattern where there is one. */
export function text(expects = 'a text', pattern = /./) {
  return setting(expects, (value) => (pattern.test(value) ? value : undefined));
}

/** Text as it stands, blanks included, that appears in no log and no message. */
export function secret() {
  const value = z.string();
  secrets.add(value, { secret: true });
  return value;
}

/** A whole number, both limits included. */
export function integer(least: number, most: number) {
  return setting(`a whole number from ${least} to ${most}`, (value) => {
    const number = /^[+-]?\d{1,15}$/.test(value) ? Number(value) : Number.NaN;
    return number >= least && number <= most ? number : undefined;
  });
}

/** A number with or without decimals, both limits included. */
export function decimal(least: number, most: number) {
  return setting(`a number from ${least} to ${most}`, (value) => {
    const number = /^[+-]?\d{1,15}(\.\d{1,9})?$/.test(value) ? Number(value) : Number.NaN;
    return number >= least && number <= most ? number : undefined;
  });
}

/** One of some words, in any case. */
export function choice<const T extends string>(words: readonly T[]) {
  return setting(`one of ${words.join(', ')}`, (value) =>
    words.find((word) => word.toLowerCase() === value.toLowerCase()),
  );
}

/** `true` or `false`. */
export function flag() {
  return setting('true or false', (value) => ({ true: true, false: false })[value.toLowerCase()]);
}

/** One or more certificates in PEM. */
export function certificate() {
  return text('a certificate in PEM', /-----BEGIN CERTIFICATE-----/);
}

/** A size in the words that DuckDB takes for its memory limit, such as `192MB`. */
export function memory() {
  return text('a size such as 192MB or 1.5GiB', /^\d{1,9}(\.\d{1,3})? ?[KMGT]i?B$/i);
}

/** Addresses with ports, with commas between them. */
export function addresses() {
  return setting('host:port, with commas between several', (value) => {
    const items = value.split(',').map((item) => item.trim());
    return items.every(isAddress) ? items : undefined;
  });
}

function isAddress(value: string): boolean {
  const port = /^(?:\[[0-9a-f:.]+\]|[a-z0-9._-]+):(\d{1,5})$/i.exec(value)?.[1];
  return port !== undefined && Number(port) >= 1 && Number(port) <= 65_535;
}

/** Of a collector or the like. `fetch` takes no user and password in it, and logs would show them. */
function httpUrl() {
  return setting('an http or https URL without user and password', (value) => {
    const url = URL.parse(value);
    const isPlain = url !== null && url.username === '' && url.password === '';
    return isPlain && /^https?:$/.test(url.protocol) ? url.href : undefined;
  });
}

/** `key=value` pairs with commas between them, the values percent-encoded, as OpenTelemetry has them. */
function pairs() {
  return setting('key=value, with commas between several', parsePairs);
}

/** `pairs` that appear in no log and no message. */
function secretPairs() {
  return secret().transform((input, context) => {
    const value = parsePairs(input);
    if (value === undefined) {
      context.addIssue({
        code: 'custom',
        message: 'must be key=value, with commas between several',
      });
      return z.NEVER;
    }
    return value;
  });
}

function parsePairs(value: string): Readonly<Record<string, string>> | undefined {
  const items = value.split(',').map((item) => /^([^=]*[^=\s][^=]*)=(.*)$/.exec(item));
  try {
    return Object.fromEntries(
      items.map((item) => {
        const [, key = '', encoded = ''] = item ?? [];
        if (item === null) {
          throw new URIError('no pair');
        }
        return [key.trim(), decodeURIComponent(encoded.trim())];
      }),
    );
  } catch {
    return undefined;
  }
}

/**
 * The settings that every service has. Each is an environment variable; each `NAME` may be given as
 * `NAME_FILE` instead, the path of a file that holds it.
 */
export const commonSettings = {
  KAFKA_BROKERS: addresses().describe(
    'the brokers to begin with, as host:port, with commas between several',
  ),
  KAFKA_SSL: flag().default(false).describe('whether to speak TLS with the brokers'),
  KAFKA_CA: certificate()
    .optional()
    .describe("the certificate authority of the brokers, in PEM; without it the system's"),
  KAFKA_CERT: certificate()
    .optional()
    .describe('the certificate by which the service identifies itself to the brokers, in PEM'),
  KAFKA_KEY: secret().optional().describe('the private key of KAFKA_CERT, in PEM'),
  KAFKA_SSL_INSECURE_SKIP_VERIFY: flag()
    .default(false)
    .describe('true: whoever answers is taken for the broker, so TLS protects from nobody'),
  KAFKA_SASL_MECHANISM: choice(['PLAIN', 'SCRAM-SHA-256', 'SCRAM-SHA-512'])
    .optional()
    .describe('how to log in to the brokers; without it not at all'),
  KAFKA_USERNAME: text().optional().describe('the user who logs in to the brokers'),
  KAFKA_PASSWORD: secret().optional().describe('the password of KAFKA_USERNAME'),
  INSTANCE: text('1 to 64 letters, digits, dots, underscores or hyphens', /^[A-Za-z0-9._-]{1,64}$/)
    .prefault(() => hostname())
    .describe(
      "the name of this instance among those of its service, kept across restarts; by default the host's",
    ),
  ANABRANCH_DEFINITION: text()
    .default('anabranch.yaml')
    .describe('the path of the definition of sources and tables'),
  HOST: text('a host name or an address', /^[A-Za-z0-9.:_-]+$/)
    .default('0.0.0.0')
    .describe('the address on which health and metrics listen'),
  PORT: integer(0, 65_535)
    .default(3000)
    .describe('the port on which health and metrics listen; 0 takes any free one'),
  LOG_LEVEL: choice(logLevels).default('info').describe('the least severe messages to log'),
  LOG_FORMAT: choice(logFormats)
    .default('json')
    .describe('json for machines, pretty for a terminal'),
  SHUTDOWN_SECONDS: decimal(0.1, 3600)
    .default(10)
    .describe('how long the work in flight may take to end when the service is asked to stop'),
  SESSION_SECONDS: decimal(6, 300)
    .default(30)
    .describe('how long an instance that has vanished keeps its partitions'),
  MEMORY_LIMIT: memory()
    .default('192MB')
    .describe(
      'how much memory DuckDB may take: beyond that, only the batch-processor spills to disk',
    ),
  OTEL_EXPORTER_OTLP_ENDPOINT: httpUrl()
    .optional()
    .describe(
      'the OpenTelemetry collector that gets traces, as http://host:4318; without it no traces',
    ),
  OTEL_EXPORTER_OTLP_TRACES_ENDPOINT: httpUrl()
    .optional()
    .describe('the whole URL that traces go to, in place of the collector and /v1/traces'),
  OTEL_EXPORTER_OTLP_HEADERS: secretPairs()
    .optional()
    .describe('headers for the collector, as key=value, with commas between several'),
  OTEL_TRACES_SAMPLER_ARG: decimal(0, 1)
    .default(0.01)
    .describe('which share of the blocks is traced, from 0 to 1; ingest decides for all services'),
  OTEL_SERVICE_NAME: text()
    .optional()
    .describe('the name of the service in traces; by default anabranch.ingest and the like'),
  OTEL_RESOURCE_ATTRIBUTES: pairs()
    .optional()
    .describe('attributes of all spans, as key=value, with commas between several'),
};

/**
 * A service's settings: the common ones and its own, with what must hold between them.
 * @param ownFaults a line for each fault between its own, among values that may themselves be missing
 */
export function settings<T extends z.ZodRawShape>(
  own: T,
  ownFaults: (values: SettingValues) => string[] = () => [],
) {
  return z.object({ ...commonSettings, ...own }).check(
    z.superRefine(
      (values, context) => {
        for (const message of [...kafkaFaults(values), ...ownFaults(values)]) {
          context.addIssue({ code: 'custom', message, path: [], input: undefined });
        }
      },
      // Otherwise these faults would only show once all the others are mended.
      { when: () => true },
    ),
  );
}

/** By name; undefined where a setting is missing, or a text where it is wrong. */
export type SettingValues = Readonly<Record<string, unknown>>;

export type CommonConfig = z.infer<z.ZodObject<typeof commonSettings>>;

/** How to reach and log in to Kafka. */
export interface KafkaConnection {
  readonly brokers: readonly string[];
  readonly ssl: false | TlsOptions;
  readonly sasl?: Login;
}

type Mechanism = 'plain' | 'scram-sha-256' | 'scram-sha-512';

type Login = {
  readonly [M in Mechanism]: {
    readonly mechanism: M;
    readonly username: string;
    readonly password: string;
  };
}[Mechanism];

/** What the settings say about the connection to Kafka, as Kafka's clients take it. */
export function kafkaConnection(config: CommonConfig): KafkaConnection {
  const {
    KAFKA_SASL_MECHANISM: mechanism,
    KAFKA_USERNAME: username = '',
    KAFKA_PASSWORD: password = '',
  } = config;
  return {
    brokers: config.KAFKA_BROKERS,
    ssl: config.KAFKA_SSL && tlsOptions('KAFKA', config),
    ...(mechanism && {
      sasl: { mechanism: saslMechanisms[mechanism], username, password },
    }),
  };
}

/** What an operator should hear of at every start, though it is allowed. */
export function kafkaWarnings(config: CommonConfig): string[] {
  const warnings: string[] = [];
  if (config.KAFKA_SSL_INSECURE_SKIP_VERIFY) {
    warnings.push(
      'KAFKA_SSL_INSECURE_SKIP_VERIFY is on: whoever answers in place of a broker can read and change everything',
    );
  }
  if (config.KAFKA_SASL_MECHANISM !== undefined && !config.KAFKA_SSL) {
    warnings.push(
      config.KAFKA_SASL_MECHANISM === 'PLAIN'
        ? 'the password of Kafka goes over the network as it is: set KAFKA_SSL to true'
        : 'everything but the password of Kafka goes over the network as it is: set KAFKA_SSL to true',
    );
  }
  return warnings;
}

const saslMechanisms = {
  PLAIN: 'plain',
  'SCRAM-SHA-256': 'scram-sha-256',
  'SCRAM-SHA-512': 'scram-sha-512',
} as const;

function kafkaFaults(values: SettingValues): string[] {
  const has = (name: keyof typeof commonSettings) => values[name] !== undefined;
  const faults: string[] = [];
  for (const name of ['KAFKA_USERNAME', 'KAFKA_PASSWORD'] as const) {
    if (has('KAFKA_SASL_MECHANISM') && !has(name)) {
      faults.push(`${name} is missing: KAFKA_SASL_MECHANISM is set`);
    }
    if (!has('KAFKA_SASL_MECHANISM') && has(name)) {
      faults.push(`KAFKA_SASL_MECHANISM is missing: ${name} is set`);
    }
  }
  return [...faults, ...tlsFaults('KAFKA', values)];
}
