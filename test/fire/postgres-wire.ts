/**
 * Reads the headers of Postgres' protocol as bytes pass, wherever they are cut. Both directions have
 * the same form: a type, a length that counts itself, a body. Only a client's first messages have no type.
 */
export class MessageReader {
  readonly #visit: (type: string, body: Buffer, end: number) => void;
  #pending = Buffer.alloc(0);
  /** Bytes of the present message that are of no interest any more. */
  #skip = 0;
  #hasTypes: boolean;

  /** @param visit gets the type, the first bytes of the body, and where in the chunk the message ends */
  constructor(fromClient: boolean, visit: (type: string, body: Buffer, end: number) => void) {
    this.#hasTypes = !fromClient;
    this.#visit = visit;
  }

  read(chunk: Buffer): void {
    const before = this.#pending.length;
    const bytes = before === 0 ? chunk : Buffer.concat([this.#pending, chunk]);
    let at = 0;
    for (;;) {
      if (this.#skip > 0) {
        const skipped = Math.min(this.#skip, bytes.length - at);
        at += skipped;
        this.#skip -= skipped;
      }
      const header = this.#hasTypes ? 5 : 4;
      if (bytes.length - at < header) {
        break;
      }
      const length = bytes.readInt32BE(at + header - 4) - 4;
      const type = this.#hasTypes ? String.fromCharCode(bytes[at] ?? 0) : 'startup';
      // CopyData may be long: nobody wants its body.
      const wanted = type === 'd' ? 0 : Math.min(length, 64);
      if (bytes.length - at - header < wanted) {
        break;
      }
      const body = bytes.subarray(at + header, at + header + wanted);
      // A request for TLS (version 1234.5679) is followed by another first message.
      this.#hasTypes ||= body.readInt32BE(0) >> 16 === 3;
      this.#visit(type, body, at + header + length - before);
      at += header;
      this.#skip = length;
    }
    this.#pending = Buffer.from(bytes.subarray(at));
  }
}
