/** Bytes of a record's value. */
export const recordBytes = 192;
export const defaultCustomers = 10_000;
/** What the records of the filled topic span, whatever their number. */
export const eventMinutes = 10;
export const windowMilliseconds = 60_000;

const firstCustomer = 100_000;
/** Customers from here on are probes: one record each. */
export const firstProbe = 10_000_000;
/** Customers from here on have rows that were there before the first record. */
export const firstStranger = 20_000_000;
/** Half a minute past the full one: the first and the last window are partly filled. */
export const startsAt = Date.parse('2025-03-01T12:00:30Z');
const latestBy = 5 * 60_000;
const probePrice = 1000;

const products = ['anvil', 'bucket', 'candle', 'drill', 'easel', 'funnel', 'gasket', 'hammer'];
const countries = ['AT', 'BE', 'CH', 'DE', 'DK', 'ES', 'FR', 'IT', 'NL', 'PL', 'SE', 'UK'];
const channels = ['web', 'app', 'shop', 'phone'];
const statuses = ['new', 'paid', 'sent'];
const notes =
  'please leave the parcel with the neighbours at the green door behind the yard, and ring';

/** The records' Avro schema: ten fields. */
export const schema = {
  type: 'record',
  name: 'Order',
  fields: [
    { name: 'order_id', type: 'long' },
    { name: 'customer_id', type: 'int' },
    { name: 'ts', type: { type: 'long', logicalType: 'timestamp-millis' } },
    {
      name: 'price',
      type: ['null', { type: 'bytes', logicalType: 'decimal', precision: 9, scale: 2 }],
      default: null,
    },
    { name: 'quantity', type: 'int' },
    { name: 'product', type: 'string' },
    { name: 'country', type: 'string' },
    { name: 'channel', type: 'string' },
    { name: 'status', type: 'string' },
    { name: 'note', type: ['null', 'string'], default: null },
  ],
};

/** What a window's row must say. Money in cents. */
export interface WindowTruth {
  readonly count: number;
  readonly sum: number;
  readonly min: number;
  readonly max: number;
}

/** What the rows of a row table must add up to. */
export interface RowsTruth {
  rows: number;
  nulls: number;
  orderIds: number;
  customerIds: number;
  quantities: number;
  /** Cents of price times quantity. */
  amounts: number;
}

export interface OrdersOptions {
  /** How many make up the ten minutes of event time; those after them go on alike. */
  readonly records: number;
  readonly customers?: number;
  /** Where another one stands, whose records this one goes on with; it knows nothing of those before. */
  readonly resume?: OrdersPosition;
}

export interface OrdersPosition {
  readonly made: number;
  readonly state: number;
}

const seed = 20_250_301;

/**
 * Orders, one after another, always the same; keeps running sums of what it has made. 2 % have no
 * price, 1 % are up to five minutes late.
 */
export class Orders {
  readonly rows: RowsTruth = {
    rows: 0,
    nulls: 0,
    orderIds: 0,
    customerIds: 0,
    quantities: 0,
    amounts: 0,
  };
  readonly options: OrdersOptions;
  readonly customers: number;
  readonly #stride: number;
  readonly #windows = new Map<number, WindowSums>();
  readonly #probes = new Map<string, WindowTruth>();
  #state: number;
  #made = 0;

  constructor(options: OrdersOptions) {
    const { records, customers = defaultCustomers, resume = { made: 0, state: seed } } = options;
    this.options = options;
    this.customers = customers;
    this.#stride = (eventMinutes * 60_000) / records;
    this.#state = resume.state;
    this.#made = resume.made;
  }

  /** Records so far, those of the one it goes on from included, without probes. */
  get made(): number {
    return this.#made;
  }

  get position(): OrdersPosition {
    return { made: this.#made, state: this.#state };
  }

  /** The next record's value. */
  next(): string {
    const customer = this.#below(this.customers);
    const price = this.#below(50) === 0 ? null : 1 + this.#below(99_999);
    const late = this.#below(100) === 0 ? this.#below(latestBy) : 0;
    const time = this.#time() - late;
    const quantity = 1 + this.#below(9);
    if (price !== null) {
      this.#windowAt(time).add(customer, price);
    }
    return this.#record(firstCustomer + customer, time, price, quantity);
  }

  /** A record on time of a customer of its own, which tells when it can be queried; it moves nothing on. */
  probe(customer: number): string {
    return this.#write(customer, customer, this.#time(), probePrice, 1, 0);
  }

  /** Takes the probe of this customer, made by another one that stood at this many records, into the sums. */
  addProbe(customer: number, made: number): void {
    const time = startsAt + Math.floor(made * this.#stride);
    const truth = { count: 1, sum: probePrice, min: probePrice, max: probePrice };
    this.#probes.set(keyOf(time - (time % windowMilliseconds), customer), truth);
    this.#count(customer, customer, probePrice, 1);
  }

  /** Records made and probes added. */
  get total(): number {
    return this.#made + this.#probes.size;
  }

  get windowCount(): number {
    return [...this.#windows.values()].reduce((sum, { filled }) => sum + filled, this.#probes.size);
  }

  /** Milliseconds since 1970. */
  get windowStarts(): number[] {
    const probed = [...this.#probes.keys()].map((key) => Number(key.split(' ', 1)[0]));
    return [...new Set([...this.#windows.keys(), ...probed])];
  }

  /** @param start milliseconds since 1970 */
  window(start: number, customer: number): WindowTruth | undefined {
    return customer >= firstProbe
      ? this.#probes.get(keyOf(start, customer))
      : this.#windows.get(start)?.of(customer - firstCustomer);
  }

  #time(): number {
    return startsAt + Math.floor(this.#made * this.#stride);
  }

  #windowAt(time: number): WindowSums {
    const start = time - (time % windowMilliseconds);
    let sums = this.#windows.get(start);
    if (sums === undefined) {
      sums = new WindowSums(this.customers);
      this.#windows.set(start, sums);
    }
    return sums;
  }

  #record(customer: number, time: number, price: number | null, quantity: number): string {
    const id = ++this.#made;
    this.#count(id, customer, price, quantity);
    return this.#write(id, customer, time, price, quantity, this.#below(1 << 16));
  }

  #count(id: number, customer: number, price: number | null, quantity: number): void {
    const { rows } = this;
    if (price === null) {
      rows.nulls++;
    } else {
      rows.rows++;
      rows.orderIds += id;
      rows.customerIds += customer;
      rows.quantities += quantity;
      rows.amounts += price * quantity;
    }
  }

  #write(
    id: number,
    customer: number,
    time: number,
    price: number | null,
    quantity: number,
    shape: number,
  ): string {
    const text =
      `{"order_id":${id},"customer_id":${customer},"ts":${time},"price":${price === null ? 'null' : (price / 100).toFixed(2)},"quantity":${quantity}` +
      `,"product":"${products[shape & 7]}","country":"${countries[(shape >> 3) % 12]}","channel":"${channels[(shape >> 8) & 3]}","status":"${statuses[(shape >> 10) % 3]}","note":"`;
    return `${text}${notes.slice(0, recordBytes - text.length - 2)}"}`;
  }

  /** Mulberry32: good enough, and next to free. */
  #below(limit: number): number {
    this.#state = (this.#state + 0x6d2b79f5) | 0;
    let bits = Math.imul(this.#state ^ (this.#state >>> 15), 1 | this.#state);
    bits = (bits + Math.imul(bits ^ (bits >>> 7), 61 | bits)) ^ bits;
    return Math.floor((((bits ^ (bits >>> 14)) >>> 0) / 4_294_967_296) * limit);
  }
}

/** Running sums of all customers in one window. */
class WindowSums {
  filled = 0;
  readonly #counts: Int32Array;
  readonly #sums: Float64Array;
  readonly #least: Int32Array;
  readonly #most: Int32Array;

  constructor(customers: number) {
    this.#counts = new Int32Array(customers);
    this.#sums = new Float64Array(customers);
    this.#least = new Int32Array(customers);
    this.#most = new Int32Array(customers);
  }

  add(customer: number, price: number): void {
    const count = this.#counts[customer]!++;
    if (count === 0) {
      this.filled++;
      this.#least[customer] = price;
      this.#most[customer] = price;
    } else if (price < this.#least[customer]!) {
      this.#least[customer] = price;
    } else if (price > this.#most[customer]!) {
      this.#most[customer] = price;
    }
    this.#sums[customer]! += price;
  }

  of(customer: number): WindowTruth | undefined {
    const count = this.#counts[customer] ?? 0;
    return count === 0
      ? undefined
      : {
          count,
          sum: this.#sums[customer]!,
          min: this.#least[customer]!,
          max: this.#most[customer]!,
        };
  }
}

const keyOf = (start: number, customer: number): string => `${start} ${customer}`;
