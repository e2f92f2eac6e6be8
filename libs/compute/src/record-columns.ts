import type { Field, FieldType, Source } from '@anabranch/definition';
import { duckdbType, structure, unitMicroseconds, withDefault } from './field-types.ts';
import { quoteName } from './quoting.ts';

/**
 * Lines of several blocks, with what the lists say of each. The text comes as a BLOB: binding it as
 * VARCHAR takes three to four times as long (0.65 instead of 0.13 µs a record of 190 bytes), as
 * Node turns it into a string and back.
 */
export function unnestLines(lists: readonly string[]): string {
  return `SELECT unnest(string_split(decode($text::BLOB), chr(10))) AS "#line"${lists.map((list) => `, ${list}`).join('')}`;
}

/**
 * Parses blocks into the relation of records that tables are computed over. The records were
 * validated by ingest, so a value that can't be cast is an error of the whole query.
 *
 * Parameters: `$text`, the lines without the last line feed; `$starts`, `$counts`, `$partitions`,
 * JSON arrays with first offset, number and partition of each run of lines.
 */
export function parseSql(source: Source, used: readonly Field[], withLine: boolean): string {
  const time = source.fields.find(({ name }) => name === source.eventTime);
  if (time === undefined) {
    throw new Error(`Source ${source.name} has no field ${source.eventTime}.`);
  }
  const parsed = used.includes(time) ? used : [...used, time];
  const columns = used.map((field) => `${decode(field)} AS ${quoteName(field.name)}`);
  const lists = [
    `unnest(flatten(list_transform("#starts", lambda s, i: range(s, s + "#counts"[i])))) AS "#offset"`,
    `unnest(flatten(list_transform("#partitions", lambda p, i: list_resize([p], "#counts"[i], p)))) AS "#partition"`,
  ];
  const parameters = ['starts', 'counts', 'partitions'].map(
    (name) => `from_json($${name}::VARCHAR, '["BIGINT"]') AS "#${name}"`,
  );
  return `SELECT "#partition"::INTEGER AS "#partition", "#offset", ${microseconds(time)} AS "#time"${[...columns, ...(withLine ? ['"#line"'] : [])].map((column) => `, ${column}`).join('')}
    FROM (SELECT "#partition", "#offset", "#line", from_json("#line", ${structure(parsed, parsedType)}) AS r
      FROM (${unnestLines(lists)} FROM (SELECT ${parameters.join(', ')})))`;
}

const isTimestamp = ({ kind }: FieldType): boolean =>
  kind === 'timestamp-millis' || kind === 'timestamp-micros';

/** As what `from_json` reads a field: text where a number and a string can mean the same. */
function parsedType(type: FieldType): string {
  return type.kind === 'date' || isTimestamp(type) ? 'VARCHAR' : duckdbType(type);
}

const isIso = (text: string): string => `strpos(${text}, '-') > 1`;

function microseconds({ name, type }: Field): string {
  const text = `r.${quoteName(name)}`;
  // from_json into TIMESTAMP would drop the offset of `…+02:00`; the cast to TIMESTAMPTZ heeds it.
  return `CASE WHEN ${isIso(text)} THEN epoch_us(${text}::TIMESTAMPTZ) ELSE ${text}::BIGINT * ${String(unitMicroseconds(type))} END`;
}

function decode(field: Field): string {
  const text = `r.${quoteName(field.name)}`;
  const date = `CASE WHEN ${isIso(text)} THEN ${text}::DATE ELSE DATE '1970-01-01' + ${text}::INTEGER END`;
  if (isTimestamp(field.type)) {
    return withDefault(field, `make_timestamptz(${microseconds(field)})`);
  }
  return withDefault(field, field.type.kind === 'date' ? date : text);
}
