import { Kafka, logLevel } from 'kafkajs-as-published';
import pg from 'pg';

/**
 * What a team that uses Node writes to get such a table: a batch at a time, at least once. A
 * program of its own, started by the bench; it ends with its standard input.
 *
 * node consume.ts BROKERS TOPIC GROUP DATABASE_URL w1|w2
 */
const [brokers = '', topic = '', groupId = '', databaseUrl = '', workload] = process.argv.slice(2);

interface Order {
  readonly order_id: number;
  readonly customer_id: number;
  readonly ts: number;
  readonly price: number | null;
  readonly quantity: number;
}

interface Window {
  readonly start: number;
  readonly customer: number;
  records: number;
  /** Cents, as the others: floats would not add up. */
  total: number;
  lowest: number;
  highest: number;
}

const pool = new pg.Pool({ connectionString: databaseUrl, max: 1 });
const kafka = new Kafka({
  clientId: 'node-peer',
  brokers: brokers.split(','),
  logLevel: logLevel.WARN,
});
const consumer = kafka.consumer({
  groupId,
  // Four times the default: a batch holds more records of the same window, so fewer rows are written.
  maxBytesPerPartition: 4 * 1024 * 1024,
});

process.stdin.resume();
process.stdin.on('end', () => process.exit(0));

await consumer.connect();
await consumer.subscribe({ topics: [topic], fromBeginning: true });
await consumer.run({
  eachBatch: async ({ batch }) => {
    const orders: Order[] = [];
    for (const { value } of batch.messages) {
      const order = JSON.parse(String(value)) as Order;
      if (order.price !== null) {
        orders.push(order);
      }
    }
    await (workload === 'w1' ? writeRows(orders) : writeWindows(orders));
  },
});

const cents = (price: number): number => Math.round(price * 100);

async function writeRows(orders: readonly Order[]): Promise<void> {
  await pool.query({
    name: 'rows',
    text: `INSERT INTO bench (order_id, customer_id, ts, price, quantity, amount)
      SELECT * FROM unnest($1::bigint[], $2::int[], $3::bigint[], $4::numeric[], $5::int[], $6::numeric[])
      ON CONFLICT (order_id) DO UPDATE SET customer_id = excluded.customer_id, ts = excluded.ts,
        price = excluded.price, quantity = excluded.quantity, amount = excluded.amount`,
    values: [
      orders.map(({ order_id: id }) => id),
      orders.map(({ customer_id: customer }) => customer),
      orders.map(({ ts }) => ts),
      orders.map(({ price }) => price),
      orders.map(({ quantity }) => quantity),
      orders.map(({ price, quantity }) => (cents(price ?? 0) * quantity) / 100),
    ],
  });
}

async function writeWindows(orders: readonly Order[]): Promise<void> {
  const windows = new Map<string, Window>();
  for (const { customer_id: customer, ts, price } of orders) {
    const start = ts - (ts % 60_000);
    const amount = cents(price ?? 0);
    const key = `${start}:${customer}`;
    const window = windows.get(key);
    if (window === undefined) {
      windows.set(key, {
        start,
        customer,
        records: 1,
        total: amount,
        lowest: amount,
        highest: amount,
      });
    } else {
      window.records++;
      window.total += amount;
      window.lowest = Math.min(window.lowest, amount);
      window.highest = Math.max(window.highest, amount);
    }
  }
  const rows = [...windows.values()];
  await pool.query({
    name: 'windows',
    text: `INSERT INTO bench AS b (window_start, customer_id, records, total, lowest, highest)
      SELECT * FROM unnest($1::bigint[], $2::int[], $3::bigint[], $4::numeric[], $5::numeric[], $6::numeric[])
      ON CONFLICT (window_start, customer_id) DO UPDATE SET records = b.records + excluded.records,
        total = b.total + excluded.total, lowest = least(b.lowest, excluded.lowest),
        highest = greatest(b.highest, excluded.highest)`,
    values: [
      rows.map(({ start }) => start),
      rows.map(({ customer }) => customer),
      rows.map(({ records }) => records),
      rows.map(({ total }) => total / 100),
      rows.map(({ lowest }) => lowest / 100),
      rows.map(({ highest }) => highest / 100),
    ],
  });
}
