export type ServersErrorCode =
  /** One of the four services ended by itself. */
  | 'SERVICE_ENDED'
  /** No Java, or one older than 17. */
  | 'JAVA_MISSING'
  /** The jars aren't cached yet and there is no Maven to get them. */
  | 'MAVEN_MISSING'
  /** Maven ran, and failed. */
  | 'DOWNLOAD_FAILED'
  /** There are no Postgres binaries for this platform among the dependencies. */
  | 'POSTGRES_MISSING'
  /** No Docker or Podman answers. */
  | 'ENGINE_MISSING'
  /** Another process runs a server in the same directory. */
  | 'DIRECTORY_IN_USE'
  /** Something listens on the port that was asked for. */
  | 'PORT_TAKEN'
  /** The data were written by another major version of Postgres. */
  | 'DATA_VERSION'
  /** The server ended, or didn't answer in time; the message ends with its last log lines. */
  | 'START_FAILED'
  /** A server that was started earlier ended without being told to. */
  | 'SERVER_ENDED'
  /** A server of the user's own doesn't answer. */
  | 'UNREACHABLE';

/** Why a server isn't there. The message is for the user: what is the matter, and what to do. */
export class ServersError extends Error {
  readonly code: ServersErrorCode;

  constructor(code: ServersErrorCode, message: string, options?: ErrorOptions) {
    super(message, options);
    this.name = 'ServersError';
    this.code = code;
  }
}
