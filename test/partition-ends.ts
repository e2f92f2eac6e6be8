import { connect } from 'node:net';

/** The ends of a partition: as all readers see it, and as read_committed readers do. */
export interface Ends {
  readonly all: bigint;
  readonly committed: bigint;
}

/**
 * Asks a broker for the two ends of each partition. They differ while a transaction is open that has
 * written to it: which no client library tells.
 */
export async function endsOf(brokers: string, topic: string, partitions: number): Promise<Ends[]> {
  const [all, committed] = await Promise.all(
    [0, 1].map((isolation) => listOffsets(brokers, topic, partitions, isolation)),
  );
  return Array.from({ length: partitions }, (_, partition) => ({
    all: all?.[partition] ?? 0n,
    committed: committed?.[partition] ?? 0n,
  }));
}

const answerMilliseconds = 20_000;
const listOffsetsKey = 2;
const latest = -1n;

/** ListOffsets, version 2, of Kafka's protocol. */
async function listOffsets(
  brokers: string,
  topic: string,
  partitions: number,
  isolation: number,
): Promise<bigint[]> {
  const name = Buffer.from(topic);
  const body = Buffer.alloc(4 + 10 + 5 + 4 + 2 + name.length + 4 + 12 * partitions);
  let at = body.writeInt32BE(body.length - 4, 0);
  at = body.writeInt16BE(listOffsetsKey, at);
  at = body.writeInt16BE(2, at);
  at = body.writeInt32BE(1, at);
  // No name of the client.
  at = body.writeInt16BE(-1, at);
  at = body.writeInt32BE(-1, at);
  at = body.writeInt8(isolation, at);
  at = body.writeInt32BE(1, at);
  at = body.writeInt16BE(name.length, at);
  at += name.copy(body, at);
  at = body.writeInt32BE(partitions, at);
  for (let partition = 0; partition < partitions; partition++) {
    at = body.writeInt32BE(partition, at);
    at = body.writeBigInt64BE(latest, at);
  }
  const answer = await ask(brokers, body);
  // Size, correlation id, throttle time, number of topics, the topic's name, number of partitions.
  let read = 4 + 4 + 4 + 4 + 2 + name.length + 4;
  const ends: bigint[] = [];
  for (let i = 0; i < partitions; i++) {
    const error = answer.readInt16BE(read + 4);
    if (error !== 0) {
      throw new Error(`The broker answers with error ${error} when asked for the end of ${topic}.`);
    }
    ends[answer.readInt32BE(read)] = answer.readBigInt64BE(read + 14);
    read += 22;
  }
  return ends;
}

async function ask(brokers: string, request: Buffer): Promise<Buffer> {
  const [host = '', port = ''] = (brokers.split(',')[0] ?? '').split(/:(?=\d+$)/);
  const socket = connect(Number(port), host);
  // The broker may be killed while it is asked.
  socket.setTimeout(answerMilliseconds, () => {
    socket.destroy(new Error('The broker does not answer when asked for the ends of a topic.'));
  });
  socket.write(request);
  let answer = Buffer.alloc(0);
  // Leaving the loop destroys the socket.
  for await (const chunk of socket as AsyncIterable<Buffer>) {
    answer = Buffer.concat([answer, chunk]);
    if (answer.length >= 4 && answer.length >= 4 + answer.readInt32BE(0)) {
      return answer;
    }
  }
  throw new Error('The broker closed the connection when asked for the ends of a topic.');
}
