import { readFileSync } from 'node:fs';
import { type LogLine, type ServiceName, serviceNames } from '@anabranch/servers';
import { expect, test } from 'vitest';
import { type Chain, openChain } from './chain.ts';
import { eventsDefinition } from './events.ts';
import { expectEvents } from './events-oracle.ts';
import { RecordGenerator } from './records.ts';

/** Starts a service that is to end by itself. @returns its exit code and its fatal messages */
async function startAndEnd(
  chain: Chain,
  service: ServiceName,
  env: Readonly<Record<string, string>> = {},
): Promise<{ code: number | null; fatal: string[] }> {
  const lines: LogLine[] = [];
  const started = chain.start(service, 'a', { env, onLog: (line) => lines.push(line) });
  const code = await started.exited;
  await chain.stop(started);
  return {
    code,
    fatal: lines.filter(({ level }) => level === 'fatal').map(({ message }) => message),
  };
}

test('each service ends with 65 and names file, line and column of a fault in the definition', async () => {
  const fault = 'where: kindd <>';
  const define: typeof eventsDefinition = (source, topic) => {
    const files = eventsDefinition(source, topic);
    return { ...files, 'anabranch.yaml': files['anabranch.yaml'].replace('where: kind <>', fault) };
  };
  const chain = await openChain({ define, partitions: 1 });
  const lines = readFileSync(chain.definition, 'utf8').split('\n');
  const line = lines.findIndex((text) => text.includes(fault));
  const column = lines[line]?.indexOf('kindd') ?? 0;
  const at = `${chain.definition}:${line + 1}:${column + 1}: `;
  await Promise.all(
    serviceNames.map(async (service) => {
      const { code, fatal } = await startAndEnd(chain, service);
      expect({ service, code, faults: fatal.length }).toEqual({ service, code: 65, faults: 1 });
      expect(fatal[0]).toContain(at);
      expect(fatal[0]).toContain('kindd');
    }),
  );
});

test('each service ends with 64 and names every setting that is missing or wrong', async () => {
  const chain = await openChain({ define: eventsDefinition, partitions: 1 });
  const env = { KAFKA_BROKERS: '', SHUTDOWN_SECONDS: 'soon' };
  await Promise.all(
    serviceNames.map(async (service) => {
      const { code, fatal } = await startAndEnd(chain, service, env);
      expect({ service, code, faults: fatal.length }).toEqual({ service, code: 64, faults: 2 });
      expect(fatal.join('\n')).toContain('KAFKA_BROKERS');
      expect(fatal.join('\n')).toContain('SHUTDOWN_SECONDS');
    }),
  );
});

test('on SIGTERM each service ends its step, leaves its group and ends with 0, with work or without', async () => {
  const chain = await openChain({ define: eventsDefinition, partitions: 2 });
  const services = Object.values(chain.startAll());
  const generator = new RecordGenerator(11, 2);
  await chain.ready(services);
  await chain.produce(generator.take(20_000));
  // 76 would say that it took longer than SHUTDOWN_SECONDS, which is 10.
  expect(await Promise.all(services.map((service) => chain.stop(service)))).toEqual([0, 0, 0, 0]);
  const idle = Object.values(chain.startAll('b'));
  // Members that had not left would keep their partitions for the session's 30 seconds.
  await chain.ready(idle);
  await chain.settled();
  expect(await Promise.all(idle.map((service) => chain.stop(service)))).toEqual([0, 0, 0, 0]);
  // The first records after a restart are late by what came before it.
  chain.startAll('a');
  await chain.produce(new RecordGenerator(12, 2).take(200));
  await chain.settled();
  await expectEvents(chain);
});
