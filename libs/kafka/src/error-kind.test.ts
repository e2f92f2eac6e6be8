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
});
