import type { ServersError } from './errors.ts';

export interface ServerOptions {
  /** Made if needed; holds the server's data, log and notes. One process at a time may use it. */
  directory: string;
  /** Of 127.0.0.1. Default: that of the last start in this directory, or else any free one. */
  port?: number;
  /** Throws away what an earlier start left. Default false. */
  fresh?: boolean;
  /** Told in a few words what is being done. */
  onProgress?: (message: string) => void;
  /** Called when the server ends without having been told to. */
  onEnd?: (error: ServersError) => void;
}
