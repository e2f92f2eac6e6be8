import type { DefinitionFiles } from './chain.ts';
import { maxRecordBytes } from './records.ts';

const optional = (name: string, type: unknown): unknown => ({
  name,
  type: ['null', type],
  default: null,
});
const decimal = (precision: number, scale: number): unknown => ({
  type: 'bytes',
  logicalType: 'decimal',
  precision,
  scale,
});

/** Avro schema of the generated records: each type that Anabranch knows. */
const schema = {
  type: 'record',
  name: 'Event',
  fields: [
    { name: 'id', type: 'long' },
    optional('customer', 'string'),
    optional('region', 'string'),
    { name: 'kind', type: { type: 'enum', name: 'Kind', symbols: ['order', 'refund', 'test'] } },
    optional('amount', decimal(12, 2)),
    optional('fee', decimal(12, 2)),
    optional('precise', decimal(28, 10)),
    optional('quantity', 'int'),
    optional('big', 'long'),
    optional('ratio', 'double'),
    optional('flag', 'boolean'),
    optional('label', 'string'),
    optional('day', { type: 'int', logicalType: 'date' }),
    optional('at', { type: 'long', logicalType: 'timestamp-micros' }),
    optional('device', { type: 'string', logicalType: 'uuid' }),
    { name: 'score', type: 'int', default: 7 },
    { name: 'event_time', type: { type: 'long', logicalType: 'timestamp-millis' } },
  ],
};

/**
 * A definition with every kind of table, of expression and of split rule. `idle_timeout: never`, and
 * no event time is ahead of the clock, so each record's branch follows from the topic alone.
 */
export const eventsDefinition = (source: string, topic: string): DefinitionFiles => ({
  'events.avsc': JSON.stringify(schema),
  'anabranch.yaml': `
sources:
  ${source}:
    topic: ${topic}
    schema: events.avsc
    event_time: event_time
    disorder: 5s
    idle_timeout: never
    max_record_bytes: ${maxRecordBytes / 1024}KiB
    split:
      - { name: bulk, when: "headers['bulk'] = 'true'", to: batch }
      - { name: large, when: "bytes > 420", to: batch }
      - { name: refunds, when: "kind = 'refund' and amount < 0", to: batch }
      - { name: live, when: "headers['live'] = 'true'", to: stream }
      - { name: aged, when: "age > interval '1 day'", to: batch }
      - { name: late, when: "late_by > interval '2 minutes'", to: batch }
    default_branch: stream
    batch: { every: 1s }

tables:
  events:
    source: ${source}
    where: kind <> 'test'
    columns:
      id:
      customer:
      region:
      kind:
      amount:
      fee:
      precise:
      quantity:
      big:
      ratio:
      flag:
      label:
      day:
      at:
      device:
      score:
      event_time:
      total: amount + fee
      pieces: coalesce(quantity, 0) > 1

  numbered:
    description: Its expression fails on the label "none".
    source: ${source}
    where: label like 'n%'
    columns:
      id:
      number: cast(substr(label, 2) as integer)

  latest_by_customer:
    source: ${source}
    columns: { customer:, kind:, id:, total: amount + fee, happened_at: event_time }
    key: [customer, kind]

  per_minute:
    source: ${source}
    drop_nulls: [amount, fee]
    where: kind <> 'test'
    columns: { total: amount + fee }
    window: { tumbling: 1m, grace: 10s }
    group_by: [region, kind]
    aggregates:
      records: count(*)
      with_quantity: count(quantity)
      total: sum(total)
      lowest: min(total)
      highest: max(total)
      average: avg(total)
      pieces: sum(quantity)

  per_hour:
    source: ${source}
    window: { tumbling: 1h }
    aggregates:
      records: count(*)
      precise: sum(precise)
      precise_mean: avg(precise)
      big: sum(big)
      big_mean: avg(big)
      least_big: min(big)
      first_label: min(label)
      last_label: max(label)
      first_at: min("at")
      last_day: max(day)
      least_ratio: min(ratio)
      greatest_ratio: max(ratio)
      mean_quantity: avg(quantity)
`,
});
