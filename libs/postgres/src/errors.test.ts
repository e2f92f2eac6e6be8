import { expect, it } from 'vitest';
import { refusalReason, tlsFault } from './errors.ts';

const error = (code: string, message: string) => Object.assign(new Error(message), { code });

it.each([
  ['22P02', 'invalid input syntax for type integer: "canary"', 'for type integer: "…" (22P02)'],
  ['22P02', 'invalid input syntax for type json: "canary": "canary, "x', 'for type json: "…'],
  ['22P02', 'invalid input syntax for type integer: "line\ncanary"', 'integer: "…" (22P02)'],
  [
    '22003',
    'value "canary" is out of range for type integer',
    '"…" is out of range for type integer',
  ],
  ['22021', 'invalid byte sequence for encoding "UTF8": 0xcanary', '"…": … (22021)'],
  ['22001', 'value too long for type character varying(5)', 'character varying(5) (22001)'],
  [
    '23514',
    'new row for relation "x" violates check constraint "y"',
    'relation "x" violates check constraint "y"',
  ],
])('why data are refused is said without them: %s %s', (code, message, expected) => {
  const reason = refusalReason(error(code, message));
  expect(reason).toContain(expected);
  expect(reason).not.toContain('canary');
});

it.each([
  ['SELF_SIGNED_CERT_IN_CHAIN', 'x', /can't be verified .*DATABASE_CA/],
  ['ERR_TLS_CERT_ALTNAME_INVALID', "Host: h. is not cert's CN", /for another name .*DATABASE_URL/],
  ['ERR_SSL_TLSV13_ALERT_CERTIFICATE_REQUIRED', 'x', /DATABASE_CERT/],
  ['', 'The server does not support SSL connections', /does not speak TLS.*DATABASE_SSL/],
])('what waiting does not mend of TLS says what to look at: %s', (code, message, expected) => {
  expect(tlsFault(error(code, message))).toMatch(expected);
});

it('a server that is away is no fault of TLS', () => {
  expect(tlsFault(error('ECONNREFUSED', 'connect ECONNREFUSED'))).toBeUndefined();
  expect(
    tlsFault(error('ECONNRESET', 'socket disconnected before secure TLS connection')),
  ).toBeUndefined();
});
