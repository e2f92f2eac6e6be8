import { createPrivateKey, generateKeyPairSync } from 'node:crypto';
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { hostname, tmpdir } from 'node:os';
import { join } from 'node:path';
import fc from 'fast-check';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { z } from 'zod';
import { readConfig, shownConfig } from './config.ts';
import type { Environment, SettingsOf } from './config.ts';
import { ConfigError } from './errors.ts';
import { exitCodes } from './exit-codes.ts';
import {
  decimal,
  isSecret,
  kafkaConnection,
  kafkaWarnings,
  secret,
  settings,
  text,
} from './settings.ts';

const schema = settings({
  DATABASE_URL: secret().optional().describe('where Postgres is'),
  EVERY_SECONDS: decimal(0, 60).default(1).describe('how often'),
});
/** Made once, valid for a hundred years; in other places the tests make their own. */
const pem = `-----BEGIN CERTIFICATE-----
MIIBdjCCARugAwIBAgIUJGP3IqQBzuST2N7KPO0JChsPA3kwCgYIKoZIzj0EAwIw
DzENMAsGA1UEAwwEdGVzdDAgFw0yNjExMjUxODIwMjBaGA8yMTI2MTEwMTE4MjAy
MFowDzENMAsGA1UEAwwEdGVzdDBZMBMGByqGSM49AgEGCCqGSM49AwEHA0IABLyM
kV/o1kj970N2uQbbY6rRiM0ij1mTi9EavBS/5Jd4SvfdTVVp2bPwaxE7AunEMO+4
5FxpvqZjhEkmH06rcEKjUzBRMB0GA1UdDgQWBBRNZnZUlMcduQoH9Rr6CCyQ8I2T
0jAfBgNVHSMEGDAWgBRNZnZUlMcduQoH9Rr6CCyQ8I2T0jAPBgNVHRMBAf8EBTAD
AQH/MAoGCCqGSM49BAMCA0kAMEYCIQCtiEtDAJG7Egl/Hv8YLDMGtV5J1ePYx2Wm
aT/PWSlOlwIhANCSAoAuDNjpSharmYrz0zbPLPa/xOP4+h0FC1/3JTPi
-----END CERTIFICATE-----`;
const key = `-----BEGIN PRIVATE KEY-----
MIGHAgEAMBMGByqGSM49AgEGCCqGSM49AwEHBG0wawIBAQQg3ePl4ePQMw52M6Gt
i/nf3OAYFXeb4SVs/T9DfO12NNyhRANCAAS8jJFf6NZI/e9DdrkG22Oq0YjNIo9Z
k4vRGrwUv+SXeEr33U1Vadmz8GsROwLpxDDvuORcab6mY4RJJh9Oq3BC
-----END PRIVATE KEY-----`;
const otherKey = generateKeyPairSync('ec', { namedCurve: 'P-256' })
  .privateKey.export({ type: 'pkcs8', format: 'pem' })
  .toString();
const lockedKey = createPrivateKey(key)
  .export({ type: 'pkcs8', format: 'pem', cipher: 'aes-128-cbc', passphrase: 'x' })
  .toString();
const brokers = { KAFKA_BROKERS: 'localhost:9092' };

function faultsOf<C>(of: SettingsOf<C>, env: Environment): readonly string[] {
  try {
    readConfig(of, env);
  } catch (error) {
    expect(error).toBeInstanceOf(ConfigError);
    expect((error as ConfigError).exitCode).toBe(exitCodes.config);
    return (error as ConfigError).faults;
  }
  return [];
}

describe('settings', () => {
  test('the brokers are enough', () => {
    expect(readConfig(schema, brokers)).toEqual({
      KAFKA_BROKERS: ['localhost:9092'],
      KAFKA_SSL: false,
      KAFKA_SSL_INSECURE_SKIP_VERIFY: false,
      INSTANCE: hostname(),
      ANABRANCH_DEFINITION: 'anabranch.yaml',
      HOST: '0.0.0.0',
      PORT: 3000,
      LOG_LEVEL: 'info',
      LOG_FORMAT: 'json',
      SHUTDOWN_SECONDS: 10,
      SESSION_SECONDS: 30,
      MEMORY_LIMIT: '192MB',
      OTEL_TRACES_SAMPLER_ARG: 0.01,
      EVERY_SECONDS: 1,
    });
  });

  test('texts become typed values', () => {
    const config = readConfig(schema, {
      KAFKA_BROKERS: ' a:1, b.example:65535,[::1]:9092 ',
      KAFKA_SSL: 'TRUE',
      INSTANCE: 'ingest-0.local_A',
      PORT: '0',
      LOG_LEVEL: 'Debug',
      SHUTDOWN_SECONDS: '2.5',
      MEMORY_LIMIT: '1.5GiB',
    });
    expect(config).toMatchObject({
      KAFKA_BROKERS: ['a:1', 'b.example:65535', '[::1]:9092'],
      KAFKA_SSL: true,
      INSTANCE: 'ingest-0.local_A',
      PORT: 0,
      LOG_LEVEL: 'debug',
      SHUTDOWN_SECONDS: 2.5,
      MEMORY_LIMIT: '1.5GiB',
    });
  });

  test('every fault is one line that says what must be', () => {
    expect(
      faultsOf(schema, {
        KAFKA_SSL: 'maybe',
        INSTANCE: 'a b',
        PORT: 'abc',
        LOG_LEVEL: 'loud',
        SHUTDOWN_SECONDS: '-1',
        MEMORY_LIMIT: '192',
        EVERY_SECONDS: '1e1',
      }),
    ).toEqual([
      'KAFKA_BROKERS is missing: the brokers to begin with, as host:port, with commas between several',
      'KAFKA_SSL must be true or false, is "maybe"',
      'INSTANCE must be 1 to 64 letters, digits, dots, underscores or hyphens, is "a b"',
      'PORT must be a whole number from 0 to 65535, is "abc"',
      'LOG_LEVEL must be one of debug, info, warn, error, fatal, is "loud"',
      'SHUTDOWN_SECONDS must be a number from 0.1 to 3600, is "-1"',
      'MEMORY_LIMIT must be a size such as 192MB or 1.5GiB, is "192"',
      'EVERY_SECONDS must be a number from 0 to 60, is "1e1"',
    ]);
  });

  test.each(['localhost', 'a:0', 'a:65536', 'a:1,', ',', 'kafka://a:1', 'a:1 b:2'])(
    'KAFKA_BROKERS refuses %j',
    (value) => {
      expect(faultsOf(schema, { KAFKA_BROKERS: value })).toEqual([
        `KAFKA_BROKERS must be host:port, with commas between several, is "${value}"`,
      ]);
    },
  );

  test.each(['70000', '-1', '1.5', '0x10', '1e3', ' ', 'Infinity', '99999999999999999999'])(
    'PORT refuses %j',
    (value) => {
      expect(faultsOf(schema, { ...brokers, PORT: value })).toHaveLength(1);
    },
  );

  test('an empty variable counts as unset', () => {
    expect(readConfig(schema, { ...brokers, PORT: '', KAFKA_PASSWORD: '' }).PORT).toBe(3000);
    expect(faultsOf(schema, { KAFKA_BROKERS: '' })).toEqual([
      expect.stringMatching(/^KAFKA_BROKERS is missing: /),
    ]);
  });

  test("zod's own types serve too, with their faults in the same form", () => {
    const own = z.object({ NAME: z.string().min(3).describe('a name'), MODE: z.enum(['a', 'b']) });
    expect(faultsOf(own, { NAME: 'x', MODE: 'c' })).toEqual([
      expect.stringMatching(/^NAME is wrong: .*, is "x"$/),
      expect.stringMatching(/^MODE is wrong: .*, is "c"$/),
    ]);
    expect(faultsOf(own, {})).toEqual([
      'NAME is missing: a name',
      'MODE is missing: it has no default',
    ]);
  });

  test('no environment makes reading fail otherwise than with faults', () => {
    const names = [...Object.keys(schema.shape), 'PORT_FILE', 'KAFKA_CA_FILE'];
    fc.assert(
      fc.property(
        fc.dictionary(fc.constantFrom(...names), fc.string({ unit: 'binary' })),
        (env) => {
          for (const fault of faultsOf(schema, env)) {
            expect(fault).not.toMatch(/[\n\r]/);
          }
        },
      ),
    );
  });
});

describe('secrets', () => {
  const environment = {
    ...brokers,
    KAFKA_SASL_MECHANISM: 'PLAIN',
    KAFKA_USERNAME: 'me',
    KAFKA_PASSWORD: 'hunter2',
    DATABASE_URL: 'postgres://me:hunter3@db/x',
  };

  test('are in no fault', () => {
    const own = settings({
      LONG_SECRET: secret().min(20).describe('a key'),
      URL: text('an https URL', /^https:/),
    });
    const faults = faultsOf(own, {
      ...environment,
      LONG_SECRET: 'hunter4',
      URL: 'http://me:hunter5@there/',
    });
    expect(faults).toHaveLength(2);
    expect(faults.join()).toContain('LONG_SECRET is wrong');
    expect(faults.join()).not.toContain('hunter');
  });

  test('are masked where the config is shown, and the rest is not', () => {
    const shown = shownConfig(schema, readConfig(schema, environment));
    expect(JSON.stringify(shown)).not.toContain('hunter');
    expect(shown).toMatchObject({ KAFKA_USERNAME: 'me', KAFKA_PASSWORD: '***', PORT: 3000 });
    expect(shown).not.toHaveProperty('KAFKA_CA');
  });

  test('stay secret through whatever zod wraps around them', () => {
    const wrapped = [
      secret(),
      secret().describe('x'),
      secret().min(3),
      secret().optional(),
      secret().default('x').describe('x'),
      secret().transform((value) => value.length),
    ];
    expect(wrapped.map((made) => isSecret(made))).toEqual(wrapped.map(() => true));
    expect(isSecret(text())).toBe(false);
  });
});

describe('files', () => {
  let folder: string;
  beforeAll(() => {
    folder = mkdtempSync(join(tmpdir(), 'service-config-'));
    writeFileSync(join(folder, 'password'), ' hunter2 \n');
    writeFileSync(join(folder, 'empty'), '\n');
  });
  afterAll(() => {
    rmSync(folder, { recursive: true });
  });

  test('a setting may come from a file, without its last line break only', () => {
    const config = readConfig(schema, { ...brokers, DATABASE_URL_FILE: join(folder, 'password') });
    expect(config.DATABASE_URL).toBe(' hunter2 ');
  });

  test('a secret in the place of its path is not shown', () => {
    const faults = faultsOf(schema, { ...brokers, DATABASE_URL_FILE: 'hunter2' });
    expect(faults).toEqual([expect.stringMatching(/^DATABASE_URL_FILE must name a file/)]);
    expect(faults.join()).not.toContain('hunter');
  });

  test('a file that is not there, is empty, or competes with the variable is a fault', () => {
    const env = {
      KAFKA_BROKERS_FILE: join(folder, 'nowhere'),
      PORT_FILE: join(folder, 'empty'),
      INSTANCE: 'a',
      INSTANCE_FILE: join(folder, 'password'),
    };
    expect(faultsOf(schema, env)).toEqual([
      expect.stringMatching(/^KAFKA_BROKERS_FILE must name a file .*nowhere": ENOENT$/),
      'INSTANCE and INSTANCE_FILE are both set: unset one of them',
      expect.stringMatching(/^PORT_FILE must name a file .*empty": empty$/),
    ]);
  });
});

describe('the connection to Kafka', () => {
  test('is plain where nothing else is said', () => {
    expect(kafkaConnection(readConfig(schema, brokers))).toEqual({
      brokers: ['localhost:9092'],
      ssl: false,
    });
  });

  test('holds certificates and login', () => {
    const env = {
      ...brokers,
      KAFKA_SSL: 'true',
      KAFKA_CA: pem,
      KAFKA_SASL_MECHANISM: 'scram-sha-512',
      KAFKA_USERNAME: 'me',
      KAFKA_PASSWORD: 'pw',
    };
    expect(kafkaConnection(readConfig(schema, env))).toEqual({
      brokers: ['localhost:9092'],
      ssl: { rejectUnauthorized: true, ca: pem },
      sasl: { mechanism: 'scram-sha-512', username: 'me', password: 'pw' },
    });
    const systems = readConfig(schema, { ...brokers, KAFKA_SSL: 'true' });
    expect(kafkaConnection(systems).ssl).toEqual({ rejectUnauthorized: true });
    const own = { KAFKA_SSL: 'true', KAFKA_CERT: pem, KAFKA_KEY: key };
    expect(kafkaConnection(readConfig(schema, { ...brokers, ...own })).ssl).toEqual({
      rejectUnauthorized: true,
      cert: pem,
      key: expect.stringContaining(key.trim()) as string,
    });
  });

  test('is verified unless a setting says otherwise that nobody can overlook', () => {
    const env = { ...brokers, KAFKA_SSL: 'true', KAFKA_SSL_INSECURE_SKIP_VERIFY: 'true' };
    const config = readConfig(schema, env);
    expect(kafkaConnection(config).ssl).toEqual({ rejectUnauthorized: false });
    expect(kafkaWarnings(config)).toEqual([
      expect.stringMatching(/^KAFKA_SSL_INSECURE_SKIP_VERIFY is on/),
    ]);
    expect(faultsOf(schema, { ...env, KAFKA_SSL: 'false' })).toEqual([
      'KAFKA_SSL must be true when KAFKA_SSL_INSECURE_SKIP_VERIFY is set',
    ]);
    expect(faultsOf(schema, { ...env, KAFKA_CA: pem })).toEqual([
      expect.stringMatching(/^KAFKA_SSL_INSECURE_SKIP_VERIFY must be false when KAFKA_CA is set/),
    ]);
  });

  test('without TLS a login is warned of, a password in clear text most of all', () => {
    const login = { ...brokers, KAFKA_USERNAME: 'me', KAFKA_PASSWORD: 'pw' };
    const warnings = (mechanism: string, ssl: string) =>
      kafkaWarnings(
        readConfig(schema, { ...login, KAFKA_SASL_MECHANISM: mechanism, KAFKA_SSL: ssl }),
      );
    expect(warnings('PLAIN', 'false')).toEqual([expect.stringMatching(/^the password/)]);
    expect(warnings('SCRAM-SHA-256', 'false')).toEqual([expect.stringMatching(/^everything but/)]);
    expect(warnings('PLAIN', 'true')).toEqual([]);
    expect(kafkaWarnings(readConfig(schema, brokers))).toEqual([]);
  });

  test.each([
    ['a CA that is cut off', { KAFKA_CA: pem.slice(0, 200) }, /^KAFKA_CA is cut off or damaged/],
    ['a second CA that is cut off', { KAFKA_CA: pem + pem.slice(0, 200) }, /^KAFKA_CA is cut off/],
    ['a damaged CA', { KAFKA_CA: pem.replace('MIIB', 'MIIA') }, /^KAFKA_CA is cut off or damaged/],
    [
      'a damaged certificate',
      { KAFKA_CERT: pem.replace('MIIB', 'MIIA'), KAFKA_KEY: key },
      /^KAFKA_CERT is/,
    ],
    [
      'a key that is none',
      { KAFKA_CERT: pem, KAFKA_KEY: 'canary' },
      /^KAFKA_KEY must be a private key/,
    ],
    [
      'a key with a passphrase',
      { KAFKA_CERT: pem, KAFKA_KEY: lockedKey },
      /^KAFKA_KEY must be .*passphrase/,
    ],
    [
      'the key of another certificate',
      { KAFKA_CERT: pem, KAFKA_KEY: otherKey },
      /^KAFKA_KEY is not the key/,
    ],
  ])('%s is a fault, and not shown', (_, files, fault) => {
    const faults = faultsOf(schema, { ...brokers, KAFKA_SSL: 'true', ...files });
    expect(faults).toEqual([expect.stringMatching(fault)]);
    expect(faults.join()).not.toMatch(/canary|BEGIN|MIIB/);
  });

  test('half of a login or of a certificate is a fault, shown together with all others', () => {
    expect(
      faultsOf(schema, {
        PORT: 'x',
        KAFKA_SASL_MECHANISM: 'PLAIN',
        KAFKA_USERNAME: 'me',
        KAFKA_CERT: pem,
      }),
    ).toEqual([
      expect.stringMatching(/^KAFKA_BROKERS is missing/),
      expect.stringMatching(/^PORT must be/),
      'KAFKA_PASSWORD is missing: KAFKA_SASL_MECHANISM is set',
      'KAFKA_SSL must be true when KAFKA_CERT is set',
      'KAFKA_KEY is missing: KAFKA_CERT is set',
    ]);
    expect(faultsOf(schema, { ...brokers, KAFKA_PASSWORD: 'pw' })).toEqual([
      'KAFKA_SASL_MECHANISM is missing: KAFKA_PASSWORD is set',
    ]);
  });
});
