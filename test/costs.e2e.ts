import { serviceNames } from '@anabranch/servers';
import { expect, test } from 'vitest';
import { type Chain, type DefinitionFiles, openChain } from './chain.ts';
import { expectLedger, expectTables, loadRecords } from './oracle.ts';
import type { SourceRecord } from './records.ts';

const partitions = 4;
/** The shortest that a broker allows: how long a killed instance keeps its partitions. */
const env = { SESSION_SECONDS: '6' };
const latency = 1000;

const schema = {
  type: 'record',
  name: 'Order',
  fields: [
    { name: 'id', type: 'long' },
    { name: 'priority', type: 'string' },
    { name: 'amount', type: 'long' },
    { name: 'event_time', type: { type: 'long', logicalType: 'timestamp-millis' } },
  ],
};

/**
 * Tables of which one is dear: a distance between texts of 60 characters, so that some thousands of records a
 * second are all that a processor can take.
 */
const define =
  (split: string) =>
  (source: string, topic: string): DefinitionFiles => ({
    'orders.avsc': JSON.stringify(schema),
    'anabranch.yaml': `
sources:
  ${source}:
    topic: ${topic}
    schema: orders.avsc
    event_time: event_time
    idle_timeout: never
    split: ${split}
    batch: { fresh_within: 4s }
tables:
  placed:
    source: ${source}
    latency: ${latency}ms
    columns: { id:, priority:, amount:, distance: "levenshtein(lpad(chr(48 + (id % 10)::int), 60, '-'), lpad(chr(48 + (id % 10)::int), 60, '+'))" }
  per_minute:
    source: ${source}
    window: { tumbling: 1m }
    group_by: [priority]
    aggregates: { records: count(*), total: sum(amount), highest: max(id) }
`,
  });

const relief = `[{ name: relief, when: "priority = 'low'", to: divert }]`;

/** Numbered records, two of three of low priority, produced now. */
class Orders {
  made = 0;

  take(count: number): SourceRecord[] {
    const now = Date.now();
    return Array.from({ length: count }, () => {
      const id = this.made++;
      const priority = id % 3 === 0 ? 'high' : 'low';
      return {
        partition: id % partitions,
        key: null,
        value: Buffer.from(
          JSON.stringify({ id, priority, amount: (id * 7919) % 1000, event_time: now }),
        ),
        headers: {},
        timestamp: now,
        dead: null,
      };
    });
  }
}

/** Records as fast as they are taken, in small sends, until the chain knows what its steps cost. */
async function warmUp(chain: Chain, orders: Orders): Promise<void> {
  await chain.eventually('a model of each step on the stream', async () => {
    await chain.produce(orders.take(40));
    const models = await chain
      .query<{ service: string }>(
        `SELECT service FROM anabranch.cost_model WHERE stage = 'store' AND samples >= 20`,
      )
      .catch(() => []);
    const known = new Set(models.map(({ service }) => service));
    return ['ingest', 'stream-processor', 'fusion'].every((name) => known.has(name))
      ? true
      : undefined;
  });
}

async function latestDecision(chain: Chain): Promise<string | undefined> {
  const [row] = await chain.query<{ decision: string }>(
    `SELECT decision FROM anabranch.decisions WHERE kind = 'divert' ORDER BY id DESC LIMIT 1`,
  );
  return row?.decision;
}

/** Of the records on the stream, from production to the commit in Postgres. */
async function streamDelay(chain: Chain, from: number): Promise<string> {
  const [row] = await chain.query<{ p50: number; p99: number; records: string }>(
    `SELECT percentile_cont(0.5) WITHIN GROUP (ORDER BY delay) AS p50,
       percentile_cont(0.99) WITHIN GROUP (ORDER BY delay) AS p99, count(*) AS records
     FROM (SELECT extract(epoch FROM p.updated_at - r.produced_at)::float8 AS delay
       FROM placed p JOIN oracle.records r ON r.partition = p.source_partition AND r.record_offset = p.source_offset
       WHERE p.stream_records = 1 AND p.id >= $1) d`,
    [from],
  );
  return `p50 ${row?.p50.toFixed(2)} s, p99 ${row?.p99.toFixed(2)} s over ${row?.records} records`;
}

/** Ten times what the stream sustains in a second, as fast as it is taken. */
async function loadStep(
  chain: Chain,
  orders: Orders,
  during: () => Promise<void> = () => Promise.resolve(),
): Promise<number> {
  const from = orders.made;
  const [capacity] = await chain.query<{ rate: number }>(
    `SELECT records_per_second_per_instance AS rate FROM anabranch.capacity WHERE service = 'stream-processor'`,
  );
  const count = Math.min(40_000, Math.max(5000, 10 * Math.round(capacity?.rate ?? 0)));
  const faults = during();
  for (let sent = 0; sent < count; sent += 500) {
    await chain.produce(orders.take(500));
  }
  await faults;
  return from;
}

/** Everything but which branch a record took, which only the table can say, is computed anew. */
async function expectOrders(chain: Chain): Promise<void> {
  await loadRecords(chain);
  await chain.query(`CREATE TABLE oracle.sound AS
    SELECT r.partition, r.record_offset, (v ->> 'id')::bigint AS id, (v ->> 'priority') COLLATE "C" AS priority,
      (v ->> 'amount')::bigint AS amount, 'epoch'::timestamptz + (v ->> 'event_time')::bigint * interval '1 ms' AS event_time,
      p.stream_records, p.batch_records
    FROM (SELECT *, convert_from(value, 'UTF8')::jsonb AS v FROM oracle.records) r
    LEFT JOIN placed p ON p.source_partition = r.partition AND p.source_offset = r.record_offset`);
  const branches = 'sum(stream_records) AS stream_records, sum(batch_records) AS batch_records';
  await expectTables(chain, [
    {
      table: 'placed',
      expected: `SELECT partition AS source_partition, record_offset AS source_offset, id, priority, amount,
          59::bigint AS distance,
          stream_records, batch_records FROM oracle.sound`,
    },
    {
      table: 'per_minute',
      expected: `SELECT date_bin('1 minute', event_time, 'epoch') AS window_start,
          date_bin('1 minute', event_time, 'epoch') + interval '1 minute' AS window_end, priority,
          count(*) AS records, sum(amount) AS total, max(id) AS highest, ${branches}
        FROM oracle.sound GROUP BY 1, 2, 3`,
    },
  ]);
  await expectLedger(chain);
  expect(
    await chain.query('SELECT FROM oracle.sound WHERE stream_records + batch_records <> 1'),
  ).toEqual([]);
}

test('a load step of ten times the sustainable rate, with kills in it: what is diverted counts once, and why is known', async () => {
  const chain = await openChain({ define: define(relief), partitions, env });
  const services = chain.startAll();
  const orders = new Orders();
  await warmUp(chain, orders);
  await loadStep(chain, orders, async () => {
    await chain.eventually('diversion', async () =>
      (await latestDecision(chain)) === 'on' ? true : undefined,
    );
    for (const name of serviceNames) {
      await chain.kill(services[name]);
      services[name] = chain.start(name);
    }
  });
  await chain.settled();
  await chain.eventually('the end of the diversion', async () => {
    await chain.produce(orders.take(40));
    return (await latestDecision(chain)) === 'off' ? true : undefined;
  });
  // Another step for each partition, so that none of them diverts any more.
  await chain.produce(orders.take(40));
  await chain.settled();
  await expectOrders(chain);

  const diverted = await chain.query<{ partition: number; record_offset: string }>(
    'SELECT partition, record_offset FROM oracle.sound WHERE batch_records = 1 ORDER BY record_offset',
  );
  expect(diverted.length, 'records that were diverted').toBeGreaterThan(0);
  expect(
    await chain.query(`SELECT FROM oracle.sound WHERE batch_records = 1 AND priority <> 'low'`),
  ).toEqual([]);
  expect(
    await chain.query(`SELECT rule, sum(records)::int AS records FROM anabranch.split
      WHERE records > 0 GROUP BY 1 ORDER BY 1 DESC`),
  ).toEqual([
    { rule: 'relief', records: diverted.length },
    { rule: 'default', records: orders.made - diverted.length },
  ]);
  for (const { partition, record_offset: offset } of diverted) {
    const [why] = await chain.query<{ diverting: boolean; figures: Record<string, number> }>(
      'SELECT diverting, figures FROM anabranch.why($1, $2, $3)',
      [chain.source, partition, offset],
    );
    expect(why?.diverting, `why ${partition}/${offset} went to the batch branch`).toBe(true);
    expect(Number(why?.figures['delay']) * 1000).toBeGreaterThan(latency / 2);
  }
});

test.each([
  ['diverts', relief],
  ['does not divert', '[]'],
])(
  'the delay on the stream over a load step of ten times the sustainable rate that %s',
  async (what, split) => {
    const chain = await openChain({ define: define(split), partitions, env });
    chain.startAll();
    const orders = new Orders();
    await warmUp(chain, orders);
    const from = await loadStep(chain, orders);
    await chain.settled();
    await expectOrders(chain);
    console.log(`A load step that ${what}: ${await streamDelay(chain, from)} on the stream`);
  },
);

test('each service tells what its steps cost, what that was predicted to be, and what follows from it', async () => {
  const bulk = `[{ name: some, when: "id % 4 = 0", to: batch }]`;
  const chain = await openChain({ define: define(bulk), partitions, env });
  chain.startAll();
  const orders = new Orders();
  await warmUp(chain, orders);
  await chain.eventually('predicted runs', async () => {
    await chain.produce(orders.take(200));
    const rows = await chain.query(
      `SELECT FROM anabranch.cost_error WHERE service = 'batch-processor' AND stage = 'total' AND steps >= 3`,
    );
    return rows.length > 0 ? true : undefined;
  });
  await chain.settled();
  const errors = await chain.query<Record<string, unknown>>(
    `SELECT service, branch, stage, median, p95, steps::int FROM anabranch.cost_error ORDER BY 1, 2, 3`,
  );
  console.table(errors);
  const totals = errors.filter(({ stage }) => stage === 'total');
  expect(totals.map(({ service }) => service)).toEqual(serviceNames.toSorted());
  const models = await chain.query<Record<string, unknown>>(
    'SELECT service, branch, stage, fixed_seconds, units_per_second, unit, samples::int FROM anabranch.cost_model ORDER BY 1, 3',
  );
  console.table(models);
  expect(models).toHaveLength(16);
  const capacity = await chain.query<Record<string, unknown>>(
    'SELECT * FROM anabranch.capacity ORDER BY service',
  );
  console.table(capacity);
  expect(capacity.map(({ service }) => service)).toEqual(serviceNames.toSorted());
  const costs = await chain.query<Record<string, unknown>>(
    'SELECT * FROM anabranch.branch_costs ORDER BY table_name',
  );
  console.table(costs);
  expect(costs.map(({ table_name: table }) => table)).toEqual(['per_minute', 'placed']);
  const kinds = await chain.query<{ kind: string }>(
    'SELECT DISTINCT kind FROM anabranch.decisions ORDER BY 1',
  );
  expect(kinds.map(({ kind }) => kind)).toEqual(['micro-batch', 'run']);
  const late = await chain.query(
    `SELECT FROM anabranch.runs WHERE started_by <> 'fresh_within' OR finished_at IS NULL`,
  );
  expect(late).toEqual([]);
});
