import { exitCodes } from './exit-codes.ts';
import type { ExitCode } from './exit-codes.ts';

const exitCodeByCode = {
  CONFIG: exitCodes.config,
  DEFINITION: exitCodes.definition,
  UNAVAILABLE: exitCodes.unavailable,
  INTERNAL: exitCodes.internal,
  FENCED: exitCodes.fenced,
} as const;

export type ServiceErrorCode = keyof typeof exitCodeByCode;

/** Ends the service with the exit code that belongs to `code`; its message says what to do. */
export class ServiceError extends Error {
  override readonly name: string = 'ServiceError';
  readonly code: ServiceErrorCode;

  constructor(code: ServiceErrorCode, message: string, options?: ErrorOptions) {
    super(message, options);
    this.code = code;
  }

  get exitCode(): ExitCode {
    return exitCodeByCode[this.code];
  }
}

/** The environment doesn't hold what the service needs. */
export class ConfigError extends ServiceError {
  override readonly name = 'ConfigError';
  /** One line each; none holds a secret. */
  readonly faults: readonly string[];

  constructor(faults: readonly string[]) {
    super('CONFIG', faults.join('\n'));
    this.faults = faults;
  }
}
