import { X509Certificate } from 'node:crypto';
import { createSecureContext, type SecureContextOptions } from 'node:tls';

/** Of Node's TLS, as clients of Kafka and Postgres take them. */
export interface TlsOptions {
  /** Said in any case: without it, NODE_TLS_REJECT_UNAUTHORIZED would decide. */
  readonly rejectUnauthorized: boolean;
  readonly ca?: string;
  readonly cert?: string;
  readonly key?: string;
}

/**
 * The TLS options of the settings `<prefix>_CA`, `_CERT`, `_KEY` and `_SSL_INSECURE_SKIP_VERIFY`. The
 * peer's certificate and name are verified unless the last one is true.
 */
export function tlsOptions(prefix: string, values: Readonly<Record<string, unknown>>): TlsOptions {
  const { ca, cert, key } = pemsOf(prefix, values);
  return {
    rejectUnauthorized: values[`${prefix}_SSL_INSECURE_SKIP_VERIFY`] !== true,
    ...(ca && { ca }),
    ...(cert && { cert }),
    ...(key && { key }),
  };
}

/**
 * What doesn't fit among these settings and `<prefix>_SSL`, a line each; no line shows a value.
 * @param isOn whether TLS is spoken; undefined: that is wrong in itself, and said elsewhere
 */
export function tlsFaults(
  prefix: string,
  values: Readonly<Record<string, unknown>>,
  isOn = values[`${prefix}_SSL`],
): string[] {
  const pems = pemsOf(prefix, values);
  const skips = values[`${prefix}_SSL_INSECURE_SKIP_VERIFY`] === true;
  const faults: string[] = [];
  const needing = [
    ...Object.entries(pems)
      .filter(([, pem]) => pem !== undefined)
      .map(([part]) => `${prefix}_${part.toUpperCase()}`),
    ...(skips ? [`${prefix}_SSL_INSECURE_SKIP_VERIFY`] : []),
  ];
  if (isOn === false) {
    faults.push(...needing.map((name) => `${prefix}_SSL must be true when ${name} is set`));
  }
  if (skips && pems.ca !== undefined) {
    faults.push(
      `${prefix}_SSL_INSECURE_SKIP_VERIFY must be false when ${prefix}_CA is set, which it would make useless`,
    );
  }
  if ((pems.cert === undefined) !== (pems.key === undefined)) {
    faults.push(
      pems.key === undefined
        ? `${prefix}_KEY is missing: ${prefix}_CERT is set`
        : `${prefix}_CERT is missing: ${prefix}_KEY is set`,
    );
  }
  return [...faults, ...pemFaults(prefix, pems)];
}

interface Pems {
  readonly ca: string | undefined;
  readonly cert: string | undefined;
  readonly key: string | undefined;
}

function pemsOf(prefix: string, values: Readonly<Record<string, unknown>>): Pems {
  const textOf = (part: string): string | undefined => {
    const value = values[`${prefix}_${part}`];
    return typeof value === 'string' ? value : undefined;
  };
  return { ca: textOf('CA'), cert: textOf('CERT'), key: textOf('KEY') };
}

/** Found at the start: later they would look like a broker that is away. */
function pemFaults(prefix: string, { ca, cert, key }: Pems): string[] {
  const faults: string[] = [];
  if (ca !== undefined && !areCertificates(ca)) {
    faults.push(`${prefix}_CA is cut off or damaged: it must be certificates in PEM`);
  }
  const isCert = cert === undefined || areCertificates(cert);
  if (!isCert) {
    faults.push(`${prefix}_CERT is cut off or damaged: it must be a certificate in PEM`);
  }
  const isKey = key === undefined || isUsable({ key });
  if (!isKey) {
    faults.push(`${prefix}_KEY must be a private key in PEM, without a passphrase`);
  }
  if (isCert && isKey && cert !== undefined && key !== undefined && !isUsable({ cert, key })) {
    faults.push(`${prefix}_KEY is not the key of ${prefix}_CERT`);
  }
  return faults;
}

/** Node takes what isn't one for no certificate, without a word. */
function areCertificates(pem: string): boolean {
  const begins = pem.split('-----BEGIN CERTIFICATE-----').length - 1;
  const whole = pem.match(/-----BEGIN CERTIFICATE-----[^-]+-----END CERTIFICATE-----/g) ?? [];
  try {
    return (
      begins === whole.length && whole.every((each) => new X509Certificate(each).raw.length > 0)
    );
  } catch {
    return false;
  }
}

function isUsable(pems: SecureContextOptions): boolean {
  try {
    createSecureContext(pems);
    return true;
  } catch {
    return false;
  }
}
