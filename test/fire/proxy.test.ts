import { once } from 'node:events';
import { type AddressInfo, connect, createServer, type Socket } from 'node:net';
import { expect, it, onTestFinished } from 'vitest';
import { type Link, Proxy } from './proxy.ts';

/** A server that sends back what it gets, a proxy in front of it, and a connection through both. */
async function echoed(): Promise<{ client: Socket; link: Link; proxy: Proxy }> {
  const server = createServer((socket) => {
    socket.on('error', () => undefined);
    socket.pipe(socket);
  });
  server.listen(0, '127.0.0.1');
  await once(server, 'listening');
  const proxy = await Proxy.open((server.address() as AddressInfo).port);
  const client = connect(proxy.port, '127.0.0.1');
  client.on('error', () => undefined);
  onTestFinished(() => {
    client.destroy();
    proxy.close();
    server.close();
  });
  client.write('hello');
  expect(String((await once(client, 'data'))[0])).toBe('hello');
  const [link] = proxy.links;
  if (link === undefined) {
    throw new Error('The proxy has no connection.');
  }
  return { client, link, proxy };
}

const end = async (client: Socket): Promise<string> => {
  let received = '';
  client.on('data', (chunk) => (received += String(chunk)));
  await once(client, 'close');
  return received;
};

it('passes on half of the next message, and cuts the connection', async () => {
  const { client, link } = await echoed();
  link.cutMidMessage();
  client.write('a message');
  // Half of it never came to the server, so nothing of it comes back.
  expect(await end(client)).toBe('');
  await link.closed;
});

it('lets through what has stalled once it flows again', async () => {
  const { client, link } = await echoed();
  link.stall();
  client.write('late');
  const arrived = once(client, 'data');
  link.flow();
  expect(String((await arrived)[0])).toBe('late');
});

it('swallows what is sent, and tells neither side', async () => {
  const { client, link, proxy } = await echoed();
  link.swallow();
  let received = '';
  client.on('data', (chunk) => (received += String(chunk)));
  client.write('into the void');
  // Another connection shows that time enough has passed for an answer.
  const second = connect(proxy.port, '127.0.0.1');
  second.write('ping');
  await once(second, 'data');
  second.destroy();
  expect(received).toBe('');
  expect(client.destroyed).toBe(false);
});

it('closes new connections while it refuses', async () => {
  const { proxy } = await echoed();
  proxy.refusing = true;
  const refused = connect(proxy.port, '127.0.0.1');
  refused.on('error', () => undefined);
  await once(refused, 'close');
});
