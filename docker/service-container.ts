import path from 'node:path';
import { type ServiceName } from '@anabranch/servers';
import { inside } from '@anabranch/servers/containers';
import { GenericContainer, getContainerRuntimeClient } from 'testcontainers';

export interface ServiceContainerOptions {
  readonly service: ServiceName;
  readonly image: string;
  readonly network: string;
  /** Path of the definition. */
  readonly definition: string;
  /** As this machine reaches it. */
  readonly databaseUrl: string;
  readonly env: Readonly<Record<string, string>>;
}

/** A service in a container that is as narrow as the one of compose.yaml. */
export class ServiceContainer {
  readonly service: ServiceName;
  readonly #container: Awaited<ReturnType<typeof handleOf>>;

  static async start(options: ServiceContainerOptions): Promise<ServiceContainer> {
    const { service, image, network, definition, env } = options;
    const database = new URL(options.databaseUrl);
    database.host = inside.database;
    const started = await new NarrowContainer(image)
      .withNetworkMode(network)
      // Testcontainers waits for the ports that the image exposes, even where nobody asks for them.
      .withExposedPorts(3000)
      .withBindMounts([{ source: path.dirname(definition), target: '/definition', mode: 'ro' }])
      .withEnvironment({
        KAFKA_BROKERS: inside.brokers,
        ...(service === 'fusion' && { DATABASE_URL: database.href }),
        ...env,
      })
      .start();
    return new ServiceContainer(service, await handleOf(started.getId()));
  }

  private constructor(service: ServiceName, container: Awaited<ReturnType<typeof handleOf>>) {
    this.service = service;
    this.#container = container;
  }

  /** SIGKILL. */
  async kill(): Promise<void> {
    await this.#container.kill({ signal: 'SIGKILL' });
    await this.#container.wait();
  }

  /** The same container again, as a restart policy does it. */
  async restart(): Promise<void> {
    await this.#container.start();
  }

  /** SIGTERM. @returns the exit code */
  async stop(): Promise<number> {
    await this.#container.stop({ t: 10 });
    const { State: state } = await this.#container.inspect();
    return state.ExitCode;
  }

  /** What its health check says: exit code 0, or why not. */
  async health(): Promise<string> {
    const exec = await this.#container.exec({
      Cmd: ['node', 'healthcheck.mjs', 'ready'],
      AttachStdout: true,
      AttachStderr: true,
    });
    const stream = await exec.start({});
    let output = '';
    for await (const chunk of stream) {
      output += String(chunk);
    }
    const { ExitCode: code } = await exec.inspect();
    return code === 0 ? 'ready' : `exit code ${code}: ${output}`;
  }

  async logTail(): Promise<string> {
    const logs = await this.#container.logs({ stdout: true, stderr: true, tail: 12 });
    return `── ${this.service}\n${logs.toString('utf8')}`;
  }

  async remove(): Promise<void> {
    await this.#container.remove({ force: true, v: true });
  }
}

/** Read-only but for an anonymous volume, and without any capability. */
class NarrowContainer extends GenericContainer {
  constructor(image: string) {
    super(image);
    this.hostConfig.ReadonlyRootfs = true;
    this.createOpts.Volumes = { '/spool': {} };
    this.withDroppedCapabilities('ALL').withSecurityOpt('no-new-privileges');
  }
}

async function handleOf(id: string) {
  const client = await getContainerRuntimeClient();
  return client.container.getById(id);
}
