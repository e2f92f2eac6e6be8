import { expect, it } from 'vitest';
import { KafkaError } from './errors.ts';
import { type Grant, namingGrants, refused } from './refusal.ts';

const config = {
  brokers: ['kafka:9093'],
  sasl: { mechanism: 'scram-sha-512', username: 'alice', password: 'canary' },
} as const;
const grants: Grant[] = [
  { operation: 'Read', resource: 'topic', name: 'orders' },
  { operation: 'Read', resource: 'group', name: 'anabranch.ingest.orders' },
  { operation: 'Write', resource: 'transactional-id', name: 'anabranch.ingest.orders.a' },
];

function denied(properties: object, name = 'KafkaJSProtocolError'): Error {
  const cause = Object.assign(new Error('something'), { name, ...properties });
  return Object.assign(new Error('retried', { cause }), { name: 'KafkaJSNumberOfRetriesExceeded' });
}

it.each([
  ['TOPIC_AUTHORIZATION_FAILED', 'Read on topic orders', "--operation Read --topic 'orders'"],
  [
    'GROUP_AUTHORIZATION_FAILED',
    'Read on group anabranch.ingest.orders',
    "--operation Read --group 'anabranch.ingest.orders'",
  ],
  [
    'TRANSACTIONAL_ID_AUTHORIZATION_FAILED',
    'Write on transactional-id anabranch.ingest.orders.a',
    "--operation Write --transactional-id 'anabranch.ingest.orders.a'",
  ],
])('%s names operation, resource, user and command', (type, right, command) => {
  const { code, message } = refused(config, denied({ type }), grants);
  expect(code).toBe('REFUSED');
  expect(message).toContain(`User:alice needs ${right} (${type})`);
  expect(message).toContain(`--allow-principal 'User:alice' ${command}`);
  expect(message).not.toContain('canary');
});

it('a client that is known by its certificate is not given a name', () => {
  const message = refused(
    { brokers: config.brokers },
    denied({ type: 'TOPIC_AUTHORIZATION_FAILED' }),
    grants,
  ).message;
  expect(message).toContain('This service needs Read on topic orders');
});

it.each([
  ['SELF_SIGNED_CERT_IN_CHAIN', /set KAFKA_CA/],
  ['ERR_SSL_WRONG_VERSION_NUMBER', /doesn't speak TLS .*KAFKA_SSL/],
  ['ERR_SSL_TLSV13_ALERT_CERTIFICATE_REQUIRED', /check KAFKA_CERT and KAFKA_KEY/],
  ['ERR_TLS_CERT_ALTNAME_INVALID', /for another name/],
])('%s says which setting to look at', (code, words) => {
  expect(refused(config, denied({ code }, 'KafkaJSConnectionError')).message).toMatch(words);
});

it('a login that is refused names the user and never the password', () => {
  const { message } = refused(config, denied({}, 'KafkaJSSASLAuthenticationError'));
  expect(message).toMatch(/kafka:9093 refuse the login of User:alice: check KAFKA_USERNAME/);
  expect(message).not.toContain('canary');
});

it('only refusals are put in other words', async () => {
  const away = denied({ code: 'ECONNREFUSED' }, 'KafkaJSConnectionError');
  await expect(namingGrants(config, grants, () => Promise.reject(away))).rejects.toBe(away);
  const known = new KafkaError('TOPIC_MISMATCH', 'x');
  expect(refused(config, known, grants)).toBe(known);
});
