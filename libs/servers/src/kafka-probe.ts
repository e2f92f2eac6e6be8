import { connect } from 'node:net';
import { connect as connectTls, type ConnectionOptions } from 'node:tls';

const correlationId = 0x616e_6162;

/**
 * Whether a Kafka broker answers at this address: sends it ApiVersions (version 0, which every
 * broker knows) and waits for the answer to that request.
 */
export function answersAsKafka(
  host: string,
  port: number,
  { tls, timeoutMs = 2000 }: { tls?: ConnectionOptions | undefined; timeoutMs?: number } = {},
): Promise<boolean> {
  const request = Buffer.alloc(14);
  request.writeInt32BE(10, 0); // bytes that follow
  request.writeInt16BE(18, 4); // ApiVersions
  request.writeInt16BE(0, 6);
  request.writeInt32BE(correlationId, 8);
  request.writeInt16BE(-1, 12); // no client id
  return new Promise((resolve) => {
    const socket = tls ? connectTls({ host, port, ...tls }) : connect({ host, port });
    const finish = (answers: boolean): void => {
      socket.destroy();
      resolve(answers);
    };
    socket.setTimeout(timeoutMs, () => finish(false));
    socket.on('error', () => finish(false));
    socket.on('close', () => finish(false));
    socket.on(tls ? 'secureConnect' : 'connect', () => socket.write(request));
    let answer = Buffer.alloc(0);
    socket.on('data', (bytes) => {
      answer = Buffer.concat([answer, bytes]);
      if (answer.length >= 8) {
        finish(answer.readInt32BE(4) === correlationId);
      }
    });
  });
}
