import { type Environment, ConfigError, readConfig } from '@anabranch/service';
import { describe, expect, test } from 'vitest';
import { config } from './config.ts';
import { databaseConnection, databaseWarnings } from './database-settings.ts';

const at = 'postgres://fusion@db.example:5432/x';

function connection(env: Environment): ReturnType<typeof databaseConnection> {
  return databaseConnection(readConfig(config, { KAFKA_BROKERS: 'k:9092', ...env }));
}

function faults(env: Environment): readonly string[] {
  try {
    readConfig(config, { KAFKA_BROKERS: 'k:9092', ...env });
  } catch (error) {
    return (error as ConfigError).faults;
  }
  return [];
}

describe('the connection to Postgres', () => {
  test('is plain where nothing else is said', () => {
    expect(connection({ DATABASE_URL: at })).toEqual({ url: at, ssl: false });
    expect(connection({ DATABASE_URL: `${at}?sslmode=disable` })).toEqual({ url: at, ssl: false });
  });

  test.each(['require', 'verify-ca', 'verify-full'])(
    'is verified by sslmode=%s, and no less',
    (mode) => {
      const { url, ssl } = connection({ DATABASE_URL: `${at}?sslmode=${mode}&options=-c%20a=b` });
      expect(ssl).toEqual({ rejectUnauthorized: true });
      expect(url).toBe(`${at}?options=-c+a%3Db`);
    },
  );

  test('is verified by DATABASE_SSL', () => {
    const env = { DATABASE_URL: at, DATABASE_SSL: 'true' };
    expect(connection(env).ssl).toEqual({ rejectUnauthorized: true });
    expect(databaseWarnings(readConfig(config, { KAFKA_BROKERS: 'k:1', ...env }))).toEqual([]);
  });

  test('is unverified only by a setting that nobody can overlook', () => {
    const env = {
      DATABASE_URL: at,
      DATABASE_SSL: 'true',
      DATABASE_SSL_INSECURE_SKIP_VERIFY: 'true',
    };
    expect(connection(env).ssl).toEqual({ rejectUnauthorized: false });
    expect(databaseWarnings(readConfig(config, { KAFKA_BROKERS: 'k:1', ...env }))).toEqual([
      expect.stringMatching(/^DATABASE_SSL_INSECURE_SKIP_VERIFY is on/),
    ]);
  });

  test('takes the password from a setting of its own, whatever it holds', () => {
    const password = 'a%41/@:?#&= ü';
    const { url } = connection({ DATABASE_URL: at, DATABASE_PASSWORD: password });
    expect(decodeURIComponent(new URL(url).password)).toBe(password);
    expect(new URL(url).host).toBe('db.example:5432');
  });
});

describe('faults name the setting, and no secret', () => {
  test.each<[string, Environment, RegExp]>([
    ['no URL', { DATABASE_URL: 'canary' }, /^DATABASE_URL must be as postgres:/],
    ['another URL', { DATABASE_URL: 'mysql://a:canary@b/c' }, /^DATABASE_URL must be as postgres:/],
    [
      'sslmode=prefer',
      { DATABASE_URL: `${at}?sslmode=prefer` },
      /^sslmode in DATABASE_URL must be/,
    ],
    [
      'sslmode=no-verify',
      { DATABASE_URL: `${at}?sslmode=no-verify` },
      /DATABASE_SSL_INSECURE_SKIP_VERIFY/,
    ],
    ['sslrootcert', { DATABASE_URL: `${at}?sslrootcert=/canary` }, /set DATABASE_CA_FILE instead/],
    ['ssl', { DATABASE_URL: `${at}?ssl=true` }, /set DATABASE_SSL instead/],
    [
      'two opinions',
      { DATABASE_URL: `${at}?sslmode=verify-full`, DATABASE_SSL: 'false' },
      /^DATABASE_SSL is false, and DATABASE_URL says sslmode=verify-full/,
    ],
    [
      'two passwords',
      { DATABASE_URL: 'postgres://a:canary@b/c', DATABASE_PASSWORD: 'canary' },
      /^DATABASE_URL has a password, and DATABASE_PASSWORD is set/,
    ],
    [
      'verification switched off where nothing is verified',
      { DATABASE_URL: at, DATABASE_SSL_INSECURE_SKIP_VERIFY: 'true' },
      /^DATABASE_SSL must be true when DATABASE_SSL_INSECURE_SKIP_VERIFY is set/,
    ],
    [
      'a key that is none',
      { DATABASE_URL: at, DATABASE_SSL: 'true', DATABASE_KEY: 'canary' },
      /^DATABASE_CERT is missing: DATABASE_KEY is set/,
    ],
  ])('%s', (_, env, fault) => {
    const found = faults(env);
    expect(found[0]).toMatch(fault);
    expect(found.join()).not.toContain('canary');
  });
});
