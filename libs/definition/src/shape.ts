import { z } from 'zod';
import { durationPattern, sizePattern } from './quantity.ts';

/** Lower case, so that nobody needs quotes in SQL; 48 leave room for prefixes within Postgres' 63. */
export const identifierPattern = /^[a-z][a-z0-9_]{0,47}$/;

// Described for the editors that show it; what a message says comes from shape-problems.ts.

const identifier = z.string().regex(identifierPattern);

const duration = z
  .string()
  .regex(durationPattern)
  .meta({ title: 'duration', examples: ['500ms', '5s', '10m', '2h', '1d'] });

const size = z
  .string()
  .regex(sizePattern)
  .meta({ title: 'size', examples: ['64KiB', '1MiB'] });

// YAML reads `1` and `true` as what they are; as SQL they are expressions like any other.
const expression = z
  .union([z.string(), z.number(), z.boolean()])
  .meta({ title: 'SQL expression', examples: ['column1 + column2', 'column1 >= 0'] });

const branch = z.enum(['stream', 'batch']);

const fieldNames = z.array(z.string());

const rule = z.strictObject({
  name: identifier.optional().describe('What metrics and ledger call it. Default: rule_1, rule_2…'),
  when: expression.describe(
    "A condition on the record: SQL over its fields, late_by, age, bytes and headers['name'].",
  ),
  to: z
    .enum(['stream', 'batch', 'divert'])
    .describe(
      'The branch of the records for which it holds. divert: the batch branch, but the rule holds only while the stream is predicted to miss its latency goal.',
    ),
});

export const sourceShape = z.strictObject({
  topic: z.string().optional().describe("The Kafka topic. Default: the source's name."),
  format: z.literal('json').optional().describe("The format of the records' values."),
  schema: z
    .string()
    .describe('Path of the Avro record schema (.avsc) of the values, from this file.'),
  event_time: z
    .string()
    .describe('The field that says when it happened: a timestamp that is never null.'),
  disorder: duration
    .optional()
    .describe(
      'How far behind the newest event time a record may be without being late. Default: 5s.',
    ),
  max_skew: duration
    .optional()
    .describe(
      'How far ahead of the clock an event time may be and still move the watermark. Default: 1m.',
    ),
  idle_timeout: z
    .union([duration, z.literal('never')])
    .optional()
    .describe('After this long without a record the watermark follows the clock. Default: 10s.'),
  max_record_bytes: size
    .optional()
    .describe('A longer record becomes a dead letter. Default: 1MiB.'),
  split: z
    .array(rule)
    .optional()
    .describe('In order: the first rule that holds decides which branch takes a record.'),
  default_branch: branch
    .optional()
    .describe('The branch of a record for which no rule holds. Default: stream.'),
  batch: z
    .strictObject({
      every: duration.optional().describe('Default, if nothing else is given: 1m.'),
      cron: z
        .string()
        .optional()
        .describe('Five or six fields, UTC.')
        .meta({ examples: ['0 * * * *'] }),
      backlog: size.optional().describe('As soon as this much is waiting.'),
      fresh_within: duration
        .optional()
        .describe('So that the run ends, as predicted, before a record has waited for this long.'),
    })
    .optional()
    .describe('When a batch run starts: at whichever comes first.'),
});

export const tableShape = z.strictObject({
  description: z.string().optional().describe('Becomes the comment of the view in Postgres.'),
  source: z.string().describe('The source of its records.'),
  latency: duration
    .optional()
    .describe(
      'How long a record may take over the stream branch, from its arrival to its row: the size of micro-batches follows from the shortest of a source.',
    ),
  drop_nulls: fieldNames
    .optional()
    .describe('Fields: a record with a null in one of them is left out.'),
  where: expression.optional().describe('Only records for which this condition holds.'),
  columns: z
    .union([z.array(z.string()), z.record(identifier, z.union([expression, z.null()]))])
    .optional()
    .describe(
      'Name: SQL expression over fields and earlier columns; or a list of field names. A name with nothing behind it is the field of that name.',
    ),
  key: z
    .array(z.string())
    .min(1)
    .optional()
    .describe('Columns of which the table keeps the newest row. Without: a row per record.'),
  window: z
    .strictObject({
      tumbling: duration.describe('Length of the windows, which begin at full multiples in UTC.'),
      grace: duration
        .optional()
        .describe('How long after its end a window stays provisional. Default: 0s.'),
    })
    .optional()
    .describe('A row per window and group.'),
  group_by: z.array(z.string()).optional().describe('Columns or fields.'),
  aggregates: z
    .record(identifier, z.string())
    .optional()
    .describe(
      'Name: count(*), or an aggregate of an SQL expression: count, sum, min, max, avg, var_samp, var_pop, stddev_samp, stddev_pop, bool_and, bool_or, first, last, approx_count_distinct, approx_median, approx_quantile(x, 0.95), histogram(x, [0, 10, 100]).',
    )
    .meta({ examples: [{ records: 'count(*)', total: 'sum(amount)' }] }),
});

export const definitionShape = z
  .strictObject({
    schema: identifier.optional().describe('The Postgres schema of the views. Default: public.'),
    sources: z.record(identifier, sourceShape).describe('The topics, by name.'),
    tables: z.record(identifier, tableShape).describe('The tables in Postgres, by name.'),
  })
  .meta({
    title: 'Anabranch definition',
    description: 'Sources (Kafka topics) and the tables that are made of them.',
  });

export type SourceShape = z.infer<typeof sourceShape>;
export type TableShape = z.infer<typeof tableShape>;
export type RuleShape = z.infer<typeof rule>;

/** JSON Schema of `anabranch.yaml`, for editors. */
export function definitionJsonSchema(): unknown {
  return z.toJSONSchema(definitionShape, { target: 'draft-7', io: 'input' });
}
