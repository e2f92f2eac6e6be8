import { existsSync, readFileSync } from 'node:fs';
import path from 'node:path';
import { createInterface } from 'node:readline';
import { fileURLToPath } from 'node:url';
import { parseArgs } from 'node:util';
import { connect } from '@anabranch/kafka';

const usage = `npm run produce -- [--topic T] [--key K] [--header name=value]... VALUE...
Produces each VALUE as a record; without one, each line of standard input.
KAFKA_BROKERS names the Kafka; by default the one that npm start has started.`;

const { values, positionals } = parseArgs({
  allowPositionals: true,
  options: {
    topic: { type: 'string', default: 'quick-start-orders' },
    key: { type: 'string' },
    header: { type: 'string', multiple: true, default: [] },
    help: { type: 'boolean', default: false },
  },
});
if (values.help) {
  console.log(usage);
  process.exit(0);
}

const brokers = process.env['KAFKA_BROKERS'] ?? localBrokers();
const logger = { debug() {}, info() {}, warn: console.error, error: console.error };
const kafka = await connect({ brokers: brokers.split(','), clientId: 'produce', logger });
const producer = kafka.producer();
const headers = Object.fromEntries(
  values.header.map((header) => {
    const at = header.indexOf('=');
    return [header.slice(0, at), header.slice(at + 1)];
  }),
);
const records = positionals.length > 0 ? positionals : await lines();
await producer.send(
  values.topic,
  records.map((value) => ({ value, key: values.key ?? null, headers })),
);
console.log(
  `${records.length} record${records.length === 1 ? '' : 's'} produced to ${values.topic}`,
);
await producer.close();
await kafka.close();

function localBrokers(): string {
  const file = path.join(fileURLToPath(new URL('../', import.meta.url)), '.anabranch/brokers');
  if (!existsSync(file)) {
    console.error(
      `No Kafka is known: run npm start in another terminal first, or set KAFKA_BROKERS.\n\n${usage}`,
    );
    process.exit(64);
  }
  return readFileSync(file, 'utf8').trim();
}

async function lines(): Promise<string[]> {
  const all: string[] = [];
  for await (const line of createInterface({ input: process.stdin })) {
    if (line.trim() !== '') {
      all.push(line);
    }
  }
  return all;
}
