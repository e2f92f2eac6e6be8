import { expect, it } from 'vitest';
import { firstProbe, Orders, recordBytes } from './orders.ts';

interface Order {
  readonly order_id: number;
  readonly customer_id: number;
  readonly ts: number;
  readonly price: number | null;
  readonly quantity: number;
}

/** What the sums say, worked out from the texts themselves. */
function sumsOf(texts: readonly string[]) {
  const windows = new Map<string, { count: number; sum: number; min: number; max: number }>();
  const rows = { rows: 0, nulls: 0, orderIds: 0, customerIds: 0, quantities: 0, amounts: 0 };
  for (const text of texts) {
    const order = JSON.parse(text) as Order;
    if (order.price === null) {
      rows.nulls++;
      continue;
    }
    const price = Math.round(order.price * 100);
    rows.rows++;
    rows.orderIds += order.order_id;
    rows.customerIds += order.customer_id;
    rows.quantities += order.quantity;
    rows.amounts += price * order.quantity;
    const key = `${order.ts - (order.ts % 60_000)} ${order.customer_id}`;
    const { count, sum, min, max } = windows.get(key) ?? {
      count: 0,
      sum: 0,
      min: Number.POSITIVE_INFINITY,
      max: 0,
    };
    windows.set(key, {
      count: count + 1,
      sum: sum + price,
      min: Math.min(min, price),
      max: Math.max(max, price),
    });
  }
  return { windows, rows };
}

const records = 20_000;
const made = (orders: Orders, count: number): string[] =>
  Array.from({ length: count }, () => orders.next());

it.each([50, 10_000])('keeps sums that its records add up to, of %d customers', (customers) => {
  const orders = new Orders({ records, customers });
  const { windows, rows } = sumsOf(made(orders, records));
  expect(orders.rows).toEqual(rows);
  expect(rows.nulls).toBeGreaterThan(0);
  expect(orders.windowCount).toBe(windows.size);
  expect(orders.windowStarts.length).toBeGreaterThan(10);
  for (const [key, truth] of windows) {
    const [start = 0, customer = 0] = key.split(' ').map(Number);
    expect(orders.window(start, customer)).toEqual(truth);
  }
});

it('makes records of the same size, ten fields each', () => {
  const texts = made(new Orders({ records }), 1000);
  expect(texts.map(({ length }) => length)).toEqual(texts.map(() => recordBytes));
  expect(Object.keys(JSON.parse(texts[0] ?? '') as object)).toHaveLength(10);
});

it('makes the same records each time, and goes on where another one stands', () => {
  const whole = made(new Orders({ records }), 300);
  const first = new Orders({ records });
  expect(made(first, 200)).toEqual(whole.slice(0, 200));
  const second = new Orders({ records, resume: first.position });
  expect(made(second, 100)).toEqual(whole.slice(200));
  expect(second.made).toBe(300);
});

it('counts a probe where its record says, and makes the same records with it as without', () => {
  const orders = new Orders({ records });
  const before = made(orders, 100);
  const probe = orders.probe(firstProbe);
  orders.addProbe(firstProbe, orders.made);
  const after = made(orders, 100);
  expect([...before, ...after]).toEqual(made(new Orders({ records }), 200));
  const { windows, rows } = sumsOf([...before, probe, ...after]);
  expect(orders.rows).toEqual(rows);
  expect(orders.windowCount).toBe(windows.size);
  expect(orders.total).toBe(201);
  const { ts } = JSON.parse(probe) as Order;
  expect(orders.window(ts - (ts % 60_000), firstProbe)).toMatchObject({ count: 1, sum: 1000 });
});
