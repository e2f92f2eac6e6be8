export type CoverageErrorCode = 'NOT_CONTIGUOUS' | 'GAP' | 'OVERLAP';

/** Ranges that don't tile: something was lost or repeated in front of this service. */
export class CoverageError extends Error {
  override readonly name = 'CoverageError';
  readonly code: CoverageErrorCode;

  constructor(code: CoverageErrorCode, message: string) {
    super(message);
    this.code = code;
  }
}
