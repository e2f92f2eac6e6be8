import { type FieldSchema, recordType } from './avro.ts';
import { decodeHeader } from './block.ts';
import { frame, isOfKind, unframe } from './frame.ts';
import type { Branch } from './partial.ts';

/** Seconds of the clock. */
interface StageTimes {
  readonly load: number;
  readonly preprocess: number;
  readonly process: number;
  readonly store: number;
}

/** What some steps of a service took: the article's T = B/S + D/P + D/C + D/W, measured. */
export interface StepCost extends StageTimes {
  readonly service: string;
  readonly instance: string;
  readonly source: string;
  /** null: the steps serve both. */
  readonly branch: Branch | null;
  /** Of the last one; milliseconds since 1970. */
  readonly finishedAt: bigint;
  readonly steps: bigint;
  readonly bytes: bigint;
  readonly records: bigint;
  /** Rows written, where the steps write rows. */
  readonly rows: bigint;
  /** Processor seconds of the whole process, all threads together, since the costs before. */
  readonly cpu: number;
  /** Seconds that were predicted, of those steps that had a prediction. */
  readonly predicted: StageTimes;
  readonly predictedSteps: bigint;
  readonly errors: readonly PredictionErrors[];
  readonly tables: readonly TableCost[];
}

/** How many steps of a stage were mispredicted by at most a share of what was measured. */
export interface PredictionErrors {
  /** Or `total`. */
  readonly stage: string;
  /** Upper bound of |predicted − measured| / measured; the lower one is the next smaller that there is. */
  readonly atMost: number;
  readonly steps: bigint;
}

/** What one table took of the steps, but for reading the records. */
export interface TableCost {
  readonly table: string;
  readonly records: bigint;
  readonly rows: bigint;
  readonly seconds: number;
}

/** What a service takes its steps to cost now: per stage, seconds = fixed + each · units. */
export interface CostModel {
  readonly service: string;
  readonly instance: string;
  readonly source: string;
  readonly branch: Branch | null;
  /** Milliseconds since 1970. */
  readonly at: bigint;
  /** Records a second that one instance sustains; null while it has seen too few steps. */
  readonly sustained: number | null;
  readonly stages: readonly {
    readonly stage: string;
    readonly unit: string;
    readonly fixed: number;
    readonly each: number;
    readonly samples: bigint;
  }[];
}

/** Something that a service decided by what it knows of costs. */
export interface Decision {
  readonly service: string;
  readonly instance: string;
  readonly source: string;
  /** Milliseconds since 1970. */
  readonly at: bigint;
  readonly kind: string;
  readonly decision: string;
  /** JSON object: what it was made from. */
  readonly figures: string;
}

/** What a service tells of its costs: travels beside the partials, and decides nothing there. */
export interface Telemetry {
  readonly costs: readonly StepCost[];
  readonly models: readonly CostModel[];
  readonly decisions: readonly Decision[];
}

type Fields = { name: string; type: FieldSchema }[];

const fields = (type: FieldSchema, ...names: readonly string[]): Fields =>
  names.map((name) => ({ name, type }));
const list = (name: string, record: string, of: Fields): Fields[number] => ({
  name,
  type: { type: 'array', items: { type: 'record', name: record, fields: of } },
});
const stages = ['load', 'preprocess', 'process', 'store'];
const where = fields('string', 'service', 'instance', 'source');

const telemetryType = recordType<Telemetry>({
  type: 'record',
  name: 'Telemetry',
  fields: [
    list('costs', 'StepCost', [
      ...where,
      {
        name: 'branch',
        type: ['null', { type: 'enum', name: 'Branch', symbols: ['stream', 'batch'] }],
      },
      ...fields('long', 'finishedAt', 'steps', 'bytes', 'records', 'rows'),
      ...fields('double', ...stages, 'cpu'),
      {
        name: 'predicted',
        type: { type: 'record', name: 'StageTimes', fields: fields('double', ...stages) },
      },
      ...fields('long', 'predictedSteps'),
      list('errors', 'PredictionErrors', [
        ...fields('string', 'stage'),
        ...fields('double', 'atMost'),
        ...fields('long', 'steps'),
      ]),
      list('tables', 'TableCost', [
        ...fields('string', 'table'),
        ...fields('long', 'records', 'rows'),
        ...fields('double', 'seconds'),
      ]),
    ]),
    list('models', 'CostModel', [
      ...where,
      { name: 'branch', type: ['null', 'Branch'] },
      ...fields('long', 'at'),
      { name: 'sustained', type: ['null', 'double'] },
      list('stages', 'StageModel', [
        ...fields('string', 'stage', 'unit'),
        ...fields('double', 'fixed', 'each'),
        ...fields('long', 'samples'),
      ]),
    ]),
    list('decisions', 'Decision', [
      ...where,
      ...fields('long', 'at'),
      ...fields('string', 'kind', 'decision', 'figures'),
    ]),
  ],
});

/** The Kafka message of it, for the results topic. */
export function encodeTelemetry(telemetry: Telemetry): Buffer {
  return frame('T', telemetryType.encode(telemetry), []);
}

/** @throws ContractError */
export function decodeTelemetry(message: Buffer): Telemetry {
  const { header } = unframe('T', message);
  return decodeHeader(() => telemetryType.decode(header), 'telemetry message');
}

/** Whether a message of the results topic is telemetry, and no part of a partial. */
export function isTelemetry(message: Buffer): boolean {
  return isOfKind('T', message);
}
