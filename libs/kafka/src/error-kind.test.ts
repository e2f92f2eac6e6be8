import { describe, expect, it } from 'vitest';
import { errorKind, errorName } from './error-kind.ts';

function fault(name: string, properties: object = {}, cause?: unknown): Error {
  return Object.assign(new Error(`${name} happened`, { cause }), { name }, properties);
}

describe('errorKind', () => {
  it('looks through what kafkajs wraps around an error', () => {
    const inner = fault('KafkaJSProtocolError', { type: 'CONCURRENT_TRANSACTIONS' });
    const wrapped = fault('KafkaJSNonRetriableError', {}, inner);
    expect(errorKind(fault('KafkaJSNumberOfRetriesExceeded', {}, wrapped))).toBe('repeat');
    expect(errorName(wrapped)).toBe('CONCURRENT_TRANSACTIONS');
  });

  it('knows PRODUCER_FENCED, which kafkajs does not', () => {
    const unknown = Object.assign(new Error('Unknown error code 90'), {
      type: 'KAFKAJS_UNKNOWN_ERROR_CODE',
    });
    expect(errorKind(unknown)).toBe('fenced');
  });

  it('takes everything that it does not know for a reason to begin anew', () => {
    expect(errorKind(new TypeError('x'))).toBe('unknown');
    expect(errorKind('text')).toBe('unknown');
    expect(errorKind(fault('KafkaJSProtocolError', { type: 'INVALID_TXN_STATE' }))).toBe('unknown');
  });

  it('tells a certificate that nobody can verify from a broker that is away', () => {
    const broken = (code: string) =>
      fault('KafkaJSNumberOfRetriesExceeded', {}, fault('KafkaJSConnectionError', { code }));
    for (const code of [
      'SELF_SIGNED_CERT_IN_CHAIN',
      'UNABLE_TO_VERIFY_LEAF_SIGNATURE',
      'CERT_HAS_EXPIRED',
      'ERR_TLS_CERT_ALTNAME_INVALID',
      'ERR_SSL_WRONG_VERSION_NUMBER',
      'ERR_SSL_TLSV13_ALERT_CERTIFICATE_REQUIRED',
    ]) {
      expect([code, errorKind(broken(code))]).toEqual([code, 'refused']);
    }
    for (const code of ['ECONNREFUSED', 'ECONNRESET', 'ERR_TLS_HANDSHAKE_TIMEOUT', 'ETIMEDOUT']) {
      expect([code, errorKind(broken(code))]).toEqual([code, 'away']);
    }
  });

  it('looks into what is reported of several topics at once', () => {
    const denied = fault('KafkaJSCreateTopicError', { type: 'TOPIC_AUTHORIZATION_FAILED' });
    expect(errorKind(fault('KafkaJSAggregateError', { errors: [denied] }))).toBe('refused');
  });
});
