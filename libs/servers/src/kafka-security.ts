import type { Certificate } from './certificates.ts';

/** How a broker that lets nobody in unseen is set up: TLS, logins, access control lists. */
export interface KafkaSecurity {
  /** Whose certificates the broker trusts, in PEM. */
  readonly ca: string;
  /** The broker's own, for 127.0.0.1. */
  readonly certificate: Certificate;
  /** Whether clients have to show a certificate of the authority too. Default false. */
  readonly clientCertificates?: boolean;
  /** Passwords by name, both of letters and digits. Each may log in by PLAIN, SCRAM-SHA-256 and -512. */
  readonly users: Readonly<Record<string, string>>;
  /** The one of the users who may do all; the others may do nothing until they are granted it. */
  readonly superUser: string;
  /** How long a login lasts until it has to be renewed. Default: for ever. */
  readonly reauthenticateMilliseconds?: number;
}

export const keyStore = 'keystore.pem';
export const trustStore = 'truststore.pem';
const scrams = ['SCRAM-SHA-256', 'SCRAM-SHA-512'];

/** Of server.properties: they go before those of an open broker. */
export function securityProperties(
  security: KafkaSecurity,
  port: number,
  controllerPort: number,
): Record<string, string | number | boolean> {
  const { users, superUser, clientCertificates = false, reauthenticateMilliseconds = 0 } = security;
  const plainUsers = Object.entries(users).map(([name, password]) => `user_${name}="${password}"`);
  const login = `username="${superUser}" password="${users[superUser] ?? ''}"`;
  return {
    listeners: `SASL_SSL://127.0.0.1:${port},CONTROLLER://127.0.0.1:${controllerPort}`,
    'advertised.listeners': `SASL_SSL://127.0.0.1:${port}`,
    'listener.security.protocol.map': 'SASL_SSL:SASL_SSL,CONTROLLER:PLAINTEXT',
    'inter.broker.listener.name': 'SASL_SSL',
    'sasl.enabled.mechanisms': ['PLAIN', ...scrams].join(','),
    'sasl.mechanism.inter.broker.protocol': 'PLAIN',
    'listener.name.sasl_ssl.plain.sasl.jaas.config': `org.apache.kafka.common.security.plain.PlainLoginModule required ${[login, ...plainUsers].join(' ')};`,
    ...Object.fromEntries(
      scrams.map((mechanism) => [
        `listener.name.sasl_ssl.${mechanism.toLowerCase()}.sasl.jaas.config`,
        'org.apache.kafka.common.security.scram.ScramLoginModule required;',
      ]),
    ),
    'connections.max.reauth.ms': reauthenticateMilliseconds,
    'ssl.keystore.type': 'PEM',
    'ssl.keystore.location': keyStore,
    'ssl.truststore.type': 'PEM',
    'ssl.truststore.location': trustStore,
    // Without the prefix it means nothing for a listener with logins.
    'listener.name.sasl_ssl.ssl.client.auth': clientCertificates ? 'required' : 'none',
    'authorizer.class.name': 'org.apache.kafka.metadata.authorizer.StandardAuthorizer',
    'allow.everyone.if.no.acl.found': false,
    // ANONYMOUS is the broker to its own controller.
    'super.users': `User:${superUser};User:ANONYMOUS`,
  };
}

/** Arguments of the formatter that make the users known, since SCRAM's secrets are part of the data. */
export function scramArguments({ users }: KafkaSecurity): string[] {
  return Object.entries(users).flatMap(([name, password]) =>
    scrams.flatMap((mechanism) => [
      '--add-scram',
      `${mechanism}=[name=${name},password=${password}]`,
    ]),
  );
}
