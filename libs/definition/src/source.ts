import { Cron } from 'croner';
import { readAvroSchema } from './avro-schema.ts';
import { hashOf } from './definition-hash.ts';
import type { Located } from './located.ts';
import type { BatchCadence, Field, Source, SplitRule, Table } from './model.ts';
import type { SectionReader } from './section-reader.ts';
import type { SourceShape } from './shape.ts';
import { quote } from './source-text.ts';

const seconds = 1000;
const minutes = 60 * seconds;
const mebibyte = 1024 ** 2;

/** Endings of the topics that Anabranch makes for a source. */
const internalTopic = /\.(stream|batch|results|dead)$/;
/** Kafka allows 249 characters; the internal topics need some of them. */
const maxTopicLength = 200;

/** What split rules know of a record besides its fields. */
const ruleWords = ['late_by', 'age', 'bytes', 'headers'];

/**
 * The text of a schema file and what errors should call it.
 *
 * @param path as the definition says it
 * @throws Error whose message says why it can't be read
 */
export type ReadSchema = (path: string) => { readonly file: string; readonly text: string };

/** null if something is wrong that keeps tables from being checked against it. */
export function readSource(
  name: string,
  shape: SourceShape,
  at: Located,
  reader: SectionReader,
  readSchema: ReadSchema,
): Source | null {
  const get = (key: string): Located | undefined => at.children.get(key);
  const topic = shape.topic ?? name;
  checkTopic(topic, get('topic') ?? at, reader);
  const fields = readFields(shape.schema, get('schema') ?? at, reader, readSchema);
  const eventTime = get('event_time');
  if (fields && eventTime) {
    checkEventTime(shape.event_time, fields, eventTime, reader);
  }
  const split = readRules(get('split'), fields ?? [], reader);
  const idle = get('idle_timeout');
  const meaning = {
    name,
    topic,
    format: 'json' as const,
    fields: fields ?? [],
    eventTime: shape.event_time,
    disorder: reader.duration(get('disorder'), 5 * seconds, '0s', '7d'),
    maxSkew: reader.duration(get('max_skew'), minutes, '0s', '1d'),
    idleTimeout:
      shape.idle_timeout === 'never' ? null : reader.duration(idle, 10 * seconds, '1s', '1d'),
    maxRecordBytes: reader.size(get('max_record_bytes'), mebibyte, '1KiB', '16MiB'),
    defaultBranch: shape.default_branch ?? ('stream' as const),
  };
  const batch = readCadence(get('batch'), reader);
  if (!fields) {
    return null;
  }
  const rules = split.map(({ name: rule, when, to, divert }) => ({
    rule,
    when: when.sql,
    to: divert ? 'divert' : to,
  }));
  return { ...meaning, split, batch, hash: hashOf({ ...meaning, rules }) };
}

function checkTopic(topic: string, at: Located, reader: SectionReader): void {
  const given = typeof at.value === 'string';
  const report = (message: string, hint?: string): void => {
    if (given) {
      reader.report(at, message, hint);
    } else {
      reader.reportKey(at, message, hint);
    }
  };
  if (!/^[A-Za-z0-9._-]+$/.test(topic) || topic === '.' || topic === '..') {
    report(`${quote(topic)} can't be a topic`, "Kafka's rule: letters, digits and . _ -");
  } else if (topic.length > maxTopicLength) {
    report(`a topic's name may have at most ${String(maxTopicLength)} characters`);
  } else if (internalTopic.test(topic)) {
    const ending = internalTopic.exec(topic)?.[0] ?? '';
    report(`a source's topic can't end in "${ending}": Anabranch's own topics do`);
  } else if (topic.startsWith('__')) {
    report(`${quote(topic)} is a topic of Kafka's own`);
  }
}

/** Two sources on one topic would share their internal topics. */
export function checkTopics(
  sources: readonly Source[],
  at: Located | undefined,
  reader: SectionReader,
): void {
  const owners = new Map<string, string>();
  for (const { name, topic } of sources) {
    const owner = owners.get(topic);
    const entry = at?.children.get(name);
    if (owner !== undefined && entry) {
      const message = `the topic ${quote(topic)} belongs to the source ${quote(owner)} already`;
      const hint = `let its tables use ${quote(owner)}`;
      const topicAt = entry.children.get('topic');
      if (topicAt) {
        reader.report(topicAt, message, hint);
      } else {
        reader.reportKey(entry, message, hint);
      }
    }
    owners.set(topic, owner ?? name);
  }
}

function readFields(
  path: string,
  at: Located,
  reader: SectionReader,
  readSchema: ReadSchema,
): Field[] | null {
  let schema: { file: string; text: string };
  try {
    schema = readSchema(path);
  } catch (error) {
    reader.report(at, `can't read the schema ${quote(path)}: ${(error as Error).message}`);
    return null;
  }
  return readAvroSchema(schema.file, schema.text, reader.problems);
}

function isEventTime({ type, nullable }: Field): boolean {
  return !nullable && (type.kind === 'timestamp-millis' || type.kind === 'timestamp-micros');
}

function checkEventTime(
  name: string,
  fields: readonly Field[],
  at: Located,
  reader: SectionReader,
): void {
  const field = fields.find((candidate) => candidate.name === name);
  const possible = new Set(fields.filter(isEventTime).map((candidate) => candidate.name));
  if (!field) {
    const all = new Set(fields.map((candidate) => candidate.name));
    reader.unknownName(at, name, { what: 'field', names: possible.size > 0 ? possible : all });
  } else if (!isEventTime(field)) {
    const why = field.nullable ? 'may be null' : `is of type ${field.type.kind}`;
    reader.report(
      at,
      `the event time must be a timestamp-millis or timestamp-micros that is never null; ${quote(name)} ${why}`,
      possible.size > 0 ? `possible: ${[...possible].join(', ')}` : undefined,
    );
  }
}

function readRules(
  list: Located | undefined,
  fields: readonly Field[],
  reader: SectionReader,
): SplitRule[] {
  const rules: SplitRule[] = [];
  const names = new Set<string>();
  const hidden = fields.filter(({ name }) => ruleWords.includes(name.toLowerCase()));
  for (const [index, at] of list?.children ?? []) {
    const rule = at.value as { name?: string; to: SplitRule['to'] | 'divert' };
    const name = rule.name ?? `rule_${String(Number(index) + 1)}`;
    const nameAt = at.children.get('name') ?? at;
    if (name === 'default') {
      reader.report(nameAt, 'the name "default" is for the records for which no rule holds');
    } else if (names.has(name)) {
      reader.report(nameAt, `a rule before has the name ${quote(name)} already`);
    }
    names.add(name);
    const whenAt = at.children.get('when');
    const when = whenAt && reader.expression(whenAt);
    if (!when) {
      continue;
    }
    const ambiguous = hidden.find((field) => new RegExp(`\\b${field.name}\\b`, 'i').test(when.sql));
    if (ambiguous) {
      reader.report(
        whenAt,
        `${quote(ambiguous.name)} is a field of this source, but also what a rule calls a property of the record itself`,
        'a rule on this source can use neither',
      );
    }
    const divert = rule.to === 'divert';
    rules.push({ name, when, to: rule.to === 'divert' ? 'batch' : rule.to, divert });
  }
  return rules;
}

/** A rule that diverts compares the stream's delay with a goal, so there must be one. */
export function checkDiversions(
  sources: readonly Source[],
  tables: readonly Table[],
  at: Located | undefined,
  reader: SectionReader,
): void {
  for (const { name, split } of sources) {
    const own = tables.filter(({ source }) => source === name);
    split.forEach(({ divert }, index) => {
      const rule = at?.children.get(name)?.children.get('split')?.children.get(index);
      if (divert && rule && latencyGoal(own) === null) {
        reader.report(
          rule.children.get('to') ?? rule,
          'a rule that diverts needs a latency goal, and no table of this source has one',
          'add latency: 1s to a table',
        );
      }
    });
  }
}

/** The shortest that one of the tables has, in milliseconds; null: none has one. */
export function latencyGoal(tables: readonly Pick<Table, 'latency'>[]): number | null {
  return tables.reduce<number | null>(
    (least, { latency }) => (latency === null ? least : Math.min(least ?? latency, latency)),
    null,
  );
}

function readCadence(at: Located | undefined, reader: SectionReader): BatchCadence {
  const every = at?.children.get('every');
  const cron = at?.children.get('cron');
  const backlog = at?.children.get('backlog');
  const fresh = at?.children.get('fresh_within');
  if (cron) {
    checkCron(String(cron.value), cron, reader);
  }
  return {
    every:
      every || (!cron && !backlog && !fresh) ? reader.duration(every, minutes, '1s', '7d') : null,
    cron: cron ? String(cron.value).trim() : null,
    freshWithin: fresh ? reader.duration(fresh, minutes, '2s', '7d') : null,
    backlogBytes: backlog ? reader.size(backlog, 64 * mebibyte, '1KiB', '1TiB') : null,
  };
}

function checkCron(pattern: string, at: Located, reader: SectionReader): void {
  // croner takes dates and @daily too.
  const fieldCount = pattern.trim().split(/\s+/).length;
  if ((fieldCount !== 5 && fieldCount !== 6) || pattern.length > 200) {
    reader.report(
      at,
      `${quote(pattern)} isn't a cron pattern`,
      'it has five fields (minute hour day month weekday), or six with seconds in front',
    );
    return;
  }
  try {
    const cron = new Cron(pattern, { mode: '5-or-6-parts', timezone: 'UTC', paused: true });
    if (cron.nextRun() === null) {
      reader.report(at, `the time ${quote(pattern)} never comes`);
    }
  } catch (error) {
    const reason = (error as Error).message.replace(/^CronPattern: /, '');
    reader.report(at, `${quote(pattern)} isn't a cron pattern: ${reason}`);
  }
}
