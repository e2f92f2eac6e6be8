import { connect, type Socket } from 'node:net';
import kafkajs from 'kafkajs';
import { expect, inject, it } from 'vitest';

it('a connection on which a request is never answered is replaced, instead of swallowing all that follow', async () => {
  const sockets: Socket[] = [];
  const client = new kafkajs.Kafka({
    brokers: inject('kafkaBrokers').split(','),
    requestTimeout: 500,
    retry: { retries: 3, initialRetryTime: 50 },
    logLevel: kafkajs.logLevel.NOTHING,
    socketFactory: ({ host, port, onConnect }) => {
      const socket = connect({ host, port }, onConnect);
      sockets.push(socket);
      return socket;
    },
  });
  const admin = client.admin();
  await admin.connect();
  try {
    const before = await admin.listTopics();
    for (const socket of sockets) {
      // What is sent on it arrives nowhere, and nobody is told.
      socket.write = () => true;
    }
    await expect(admin.listTopics()).rejects.toThrow('timed out');
    expect(await admin.listTopics()).toEqual(expect.arrayContaining(before));
  } finally {
    await admin.disconnect();
  }
});
