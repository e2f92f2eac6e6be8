/**
 * - `ENGINE`: DuckDB can't be opened, or not with these options.
 * - `OUT_OF_MEMORY`: a step doesn't fit into the memory limit (nor onto the spool's disk): give the
 *   service more, or the step fewer records.
 * - `BLOCK_MISMATCH`: a block's text hasn't as many lines as it says: its maker is broken.
 * - `BLOCK_UNREADABLE`: a line that ingest must have refused isn't readable: its maker is broken.
 * - `BUSY`: a second call before the first one ended.
 * - `QUERY_FAILED`: anything else that DuckDB refuses; a bug of this library.
 */
export type ComputeErrorCode =
  'ENGINE' | 'OUT_OF_MEMORY' | 'BLOCK_MISMATCH' | 'BLOCK_UNREADABLE' | 'BUSY' | 'QUERY_FAILED';

/** A step of the compute failed as a whole: nothing of it may be used. */
export class ComputeError extends Error {
  readonly code: ComputeErrorCode;

  constructor(code: ComputeErrorCode, message: string, options?: ErrorOptions) {
    super(message, options);
    this.name = 'ComputeError';
    this.code = code;
  }
}
