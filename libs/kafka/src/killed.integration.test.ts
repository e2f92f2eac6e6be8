import { type ChildProcess, spawn } from 'node:child_process';
import { fileURLToPath } from 'node:url';
import { afterAll, afterEach, beforeAll, describe, expect, inject, it } from 'vitest';
import type { Kafka } from './kafka.ts';
import { connectForTest, createTopic, settledContents, uniqueName, until } from './testing.ts';

let kafka: Kafka;
const processes = new Set<ChildProcess>();
beforeAll(async () => {
  kafka = await connectForTest();
});
afterEach(() => {
  for (const child of processes) {
    child.kill('SIGKILL');
  }
  processes.clear();
});
afterAll(() => kafka.close());

class Copier {
  readonly output: string[] = [];
  readonly #child: ChildProcess;

  constructor(groupId: string, source: string, target: string, instance: string, hold = '') {
    const script = fileURLToPath(new URL('copy-process.ts', import.meta.url));
    const args = [script, inject('kafkaBrokers'), groupId, source, target, instance, hold];
    this.#child = spawn(process.execPath, args, { stdio: ['pipe', 'pipe', 'inherit'] });
    processes.add(this.#child);
    this.#child.stdout!.on('data', (data: Buffer) => {
      this.output.push(...String(data).split('\n').filter(Boolean));
    });
  }

  get steps(): number {
    return this.output.filter((line) => line.startsWith('step')).length;
  }

  signal(signal: NodeJS.Signals): void {
    this.#child.kill(signal);
  }

  release(): void {
    this.#child.stdin!.write('\n');
  }
}

async function filled(
  count: number,
): Promise<{ source: string; target: string; expected: string[] }> {
  const [source, target] = [
    await createTopic(kafka, 'source', 2),
    await createTopic(kafka, 'target', 2),
  ];
  const messages = Array.from({ length: count }, (_, index) => ({
    partition: index % 2,
    value: `${index}`,
  }));
  const producer = kafka.producer();
  // Many small record batches, so that there are many steps.
  for (let at = 0; at < count; at += 250) {
    await producer.send(source, messages.slice(at, at + 250));
  }
  await producer.close();
  const lane = (wanted: number): string[] =>
    messages
      .filter(({ partition }) => partition === wanted)
      .map(({ value }) => `${wanted}:${value}`);
  return { source, target, expected: [...lane(0), ...lane(1)] };
}

async function copied(groupId: string, source: string): Promise<void> {
  await until('all is copied', async () => {
    const committed = await kafka.admin.committed(groupId, [source]);
    const ends = await kafka.admin.offsets(source);
    return ends.every(
      ({ partition, latest }) =>
        committed.find((at) => at.partition === partition)?.offset === latest,
    );
  });
}

describe('a process', () => {
  it('that is killed again and again in the middle of its work copies every record once', async () => {
    const { source, target, expected } = await filled(20_000);
    const groupId = uniqueName('group');
    for (const steps of [1, 3]) {
      const copier = new Copier(groupId, source, target, 'one');
      await until('it works', () => copier.steps >= steps);
      copier.signal('SIGKILL');
    }
    const last = new Copier(groupId, source, target, 'one');
    await copied(groupId, source);
    expect(await settledContents(kafka, target, expected.length)).toEqual(expected);
    last.signal('SIGKILL');
  });

  it('that slept through the loss of its partitions changes nothing when it wakes', async () => {
    const { source, target, expected } = await filled(2_000);
    const groupId = uniqueName('group');
    const zombie = new Copier(groupId, source, target, 'zombie', 'hold');
    await until('it is in a step', () => zombie.steps === 1);
    zombie.signal('SIGSTOP');
    const heir = new Copier(groupId, source, target, 'heir');
    await copied(groupId, source);
    expect(heir.steps).toBeGreaterThan(0);
    zombie.release();
    zombie.signal('SIGCONT');
    await until('it has left its step', () => zombie.output.includes('released'));
    // It takes part again afterwards, with the others.
    const producer = kafka.producer();
    await producer.send(
      source,
      [0, 1].map((partition) => ({ partition, value: 'after' })),
    );
    await producer.close();
    // Its transaction is open until it has noticed, and holds back readers so long.
    const after = await settledContents(kafka, target, expected.length + 2);
    expect(after).toHaveLength(expected.length + 2);
    expect(after.filter((line) => !line.endsWith(':after'))).toEqual(expected);
    expect(zombie.output.filter((line) => line.startsWith('fatal'))).toEqual([]);
  });
});
