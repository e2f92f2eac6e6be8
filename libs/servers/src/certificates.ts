import 'reflect-metadata';
import { webcrypto } from 'node:crypto';
import * as x509 from '@peculiar/x509';

/** Both in PEM. */
export interface Certificate {
  readonly cert: string;
  /** PKCS #8, without a passphrase. */
  readonly key: string;
}

const algorithm = { name: 'ECDSA', namedCurve: 'P-256', hash: 'SHA-256' };
const dayMilliseconds = 86_400_000;

/** A certificate authority for tests, as long as this object lives: its key is nowhere else. */
export class Authority {
  /** Its own certificate, in PEM: what those who trust it are given. */
  readonly ca: string;
  readonly #certificate: x509.X509Certificate;
  readonly #keys: webcrypto.CryptoKeyPair;

  static async make(name: string): Promise<Authority> {
    x509.cryptoProvider.set(webcrypto);
    const keys = await newKeys();
    const certificate = await x509.X509CertificateGenerator.createSelfSigned({
      name: `CN=${name}`,
      keys: keys,
      signingAlgorithm: algorithm,
      ...validity(0, 30),
      extensions: [
        new x509.BasicConstraintsExtension(true, 0, true),
        new x509.KeyUsagesExtension(x509.KeyUsageFlags.keyCertSign, true),
      ],
    });
    return new Authority(certificate, keys);
  }

  private constructor(certificate: x509.X509Certificate, keys: webcrypto.CryptoKeyPair) {
    this.#certificate = certificate;
    this.#keys = keys;
    this.ca = certificate.toString('pem');
  }

  /**
   * @param name the subject's common name
   * @param addresses DNS names and IP addresses that it is for
   * @param days from now on; negative: it was valid that long ago, for a day
   */
  async issue(name: string, addresses: readonly string[] = [], days = 30): Promise<Certificate> {
    const keys = await newKeys();
    const certificate = await x509.X509CertificateGenerator.create({
      subject: `CN=${name}`,
      issuer: this.#certificate.subject,
      publicKey: keys.publicKey,
      signingKey: this.#keys.privateKey,
      signingAlgorithm: algorithm,
      ...(days < 0 ? validity(days, days + 1) : validity(0, days)),
      extensions: [
        new x509.SubjectAlternativeNameExtension(
          addresses.map((value) => ({ type: /^[0-9.]+$|:/.test(value) ? 'ip' : 'dns', value })),
        ),
      ],
    });
    const key = await webcrypto.subtle.exportKey('pkcs8', keys.privateKey);
    return { cert: certificate.toString('pem'), key: x509.PemConverter.encode(key, 'PRIVATE KEY') };
  }
}

function newKeys(): Promise<webcrypto.CryptoKeyPair> {
  return webcrypto.subtle.generateKey(algorithm, true, ['sign', 'verify']);
}

/** A little earlier, since clocks differ. */
function validity(from: number, to: number): { notBefore: Date; notAfter: Date } {
  const begin = Date.now() - 60_000;
  return {
    notBefore: new Date(begin + from * dayMilliseconds),
    notAfter: new Date(begin + to * dayMilliseconds),
  };
}
