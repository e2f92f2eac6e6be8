import { once } from 'node:events';
import { type AddressInfo, createServer, connect, type Server, type Socket } from 'node:net';
import { setTimeout as pause } from 'node:timers/promises';

/** Sees what passes one connection, before it goes on. What it returns late goes on late. */
export interface Inspector {
  /** @returns what goes on; null: nothing of it */
  fromClient(chunk: Buffer): Promise<Buffer | null> | Buffer | null;
  fromServer(chunk: Buffer): Promise<Buffer | null> | Buffer | null;
}

/** A TCP proxy on 127.0.0.1 that does to its connections what networks do. */
export class Proxy {
  readonly links = new Set<Link>();
  /** Milliseconds by which each chunk is late, both ways. */
  delay = 0;
  /** New connections are closed at once. */
  refusing = false;
  /** Not even new connections get an answer until `thaw`. */
  #frozen: PromiseWithResolvers<void> | null = null;
  readonly #server: Server;
  readonly #inspect: ((link: Link) => Inspector) | undefined;
  #target: number;

  /** @param target a port of 127.0.0.1 */
  static async open(target: number, inspect?: (link: Link) => Inspector): Promise<Proxy> {
    const proxy = new Proxy(target, inspect);
    proxy.#server.listen(0, '127.0.0.1');
    await once(proxy.#server, 'listening');
    return proxy;
  }

  private constructor(target: number, inspect?: (link: Link) => Inspector) {
    this.#target = target;
    this.#inspect = inspect;
    this.#server = createServer((client) => this.#accept(client));
  }

  get port(): number {
    return (this.#server.address() as AddressInfo).port;
  }

  /** Stalls all connections and new ones: the other side is there, and nothing comes from it. */
  freeze(): void {
    this.#frozen ??= Promise.withResolvers();
  }

  thaw(): void {
    this.#frozen?.resolve();
    this.#frozen = null;
  }

  get frozen(): Promise<void> | undefined {
    return this.#frozen?.promise;
  }

  close(): void {
    this.#server.close();
    for (const link of this.links) {
      link.cut();
    }
    this.thaw();
  }

  #accept(client: Socket): void {
    if (this.refusing) {
      client.destroy();
      return;
    }
    const link = new Link(this, client, connect(this.#target, '127.0.0.1'), this.#inspect);
    this.links.add(link);
    link.closed.then(
      () => this.links.delete(link),
      () => undefined,
    );
  }
}

/** One connection through the proxy. */
export class Link {
  readonly closed: Promise<void>;
  readonly #proxy: Proxy;
  readonly #client: Socket;
  readonly #server: Socket;
  #stalled: PromiseWithResolvers<void> | null = null;
  #swallowing = false;
  #cutting = false;

  constructor(proxy: Proxy, client: Socket, server: Socket, inspect?: (link: Link) => Inspector) {
    this.#proxy = proxy;
    this.#client = client;
    this.#server = server;
    for (const socket of [client, server]) {
      socket.setNoDelay(true);
      socket.on('error', () => undefined);
    }
    const inspector = inspect?.(this);
    const same = (chunk: Buffer): Buffer => chunk;
    const there = this.#pump(client, server, inspector?.fromClient.bind(inspector) ?? same);
    const back = this.#pump(server, client, inspector?.fromServer.bind(inspector) ?? same);
    this.closed = Promise.all([there, back]).then(() => undefined);
  }

  /** Both sides see a reset or an end at once. */
  cut(): void {
    this.#client.destroy();
    this.#server.destroy();
    this.flow();
  }

  /** The next chunk, whichever way it goes, is passed on by half; then both sides are cut off. */
  cutMidMessage(): void {
    this.#cutting = true;
  }

  /** Nothing goes on, and nothing is read: what is sent piles up at the sender. */
  stall(): void {
    this.#stalled ??= Promise.withResolvers();
  }

  flow(): void {
    this.#stalled?.resolve();
    this.#stalled = null;
  }

  /** All that is sent is taken and forgotten, for ever: neither side is told. */
  swallow(): void {
    this.#swallowing = true;
  }

  async #pump(
    from: Socket,
    to: Socket,
    inspect: (chunk: Buffer) => Promise<Buffer | null> | Buffer | null,
  ): Promise<void> {
    try {
      for await (const chunk of from as AsyncIterable<Buffer>) {
        if (this.#proxy.delay > 0) {
          await pause(this.#proxy.delay);
        }
        await this.#proxy.frozen;
        await this.#stalled?.promise;
        if (this.#swallowing) {
          continue;
        }
        const out = await inspect(chunk);
        if (out === null) {
          continue;
        }
        if (this.#cutting && out.length > 1) {
          to.write(out.subarray(0, out.length >> 1), () => this.cut());
          return;
        }
        if (!to.write(out)) {
          await Promise.race([once(to, 'drain'), once(to, 'close')]);
        }
      }
      if (!this.#swallowing) {
        to.end();
      }
    } catch {
      this.cut();
    }
  }
}
