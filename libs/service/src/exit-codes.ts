/**
 * What a service's exit code says, so that an orchestrator or a script can tell "restart me" from
 * "change something first". The numbers follow BSD's sysexits where it has a fitting one.
 */
export const exitCodes = {
  /** Asked to stop, and stopped in time. */
  ok: 0,
  /** A setting is missing or wrong, or the port can't be listened on. A restart doesn't help. */
  config: 64,
  /** The definition is wrong. A restart doesn't help. */
  definition: 65,
  /** Something the service depends on refused it for good, such as a wrong password. */
  unavailable: 69,
  /** A fault of ours, or an error nobody foresaw. A restart may help. */
  internal: 70,
  /** Another instance has taken over this one's name. A restart helps if it is alone. */
  fenced: 75,
  /** Asked to stop, but the work in flight didn't end within SHUTDOWN_SECONDS. Nothing is lost by it. */
  stuck: 76,
} as const;

export type ExitCode = (typeof exitCodes)[keyof typeof exitCodes];
