import type { Field, Source } from '@anabranch/definition';
import { checkField, microsecondsOf } from './field-checks.ts';
import { structure } from './field-types.ts';
import { quoteName, quoteText } from './quoting.ts';
import { unnestLines } from './record-columns.ts';

/** What split rules look at beside the fields. */
export interface RuleInputs {
  /** Names of fields. */
  readonly fields: readonly string[];
  readonly lateBy: boolean;
  readonly age: boolean;
  readonly bytes: boolean;
  readonly headerNames: readonly string[];
}

/** Positions and verdicts come as one number, position · this + 1 + verdict. */
export const verdictRange = 65_536;

/**
 * Decodes, validates and splits the lines of several blocks; a row per block, in their order:
 * `block`, `records`, `highest` (microseconds or NULL), `rules` (a list of counts, the default's
 * last), `exceptions` (a list of DOUBLE: position · 65536 + 1 + rule, or position · 65536 for a dead
 * record), and `reasons`, for the dead in the order of their positions (`code|detail`).
 *
 * Parameters: `$text`, the lines without the last line feed; `$counts` and `$highest`, JSON arrays
 * per block; `$ceiling`; `$nul`, whether a line may hold an escaped NUL; `$timestamps`, `$sizes`,
 * `$header0`…: JSON arrays per line, for the rules that want them.
 *
 * Malformed JSON is found before it is parsed: `TRY(from_json(…))` costs five times as much where
 * one record in a thousand is malformed, as it sends the whole vector down a row-by-row path.
 *
 * @param guarded a rule that fails on a record counts as one that doesn't hold. Unguarded the query
 *   fails, but is faster; the verdicts are the same.
 */
export function classifySql(source: Source, inputs: RuleInputs, guarded: boolean): string {
  const { fields, split } = source;
  const checks = new Map(fields.map((field, i) => [field.name, checkField(field, column(i))]));
  const time = fields.findIndex(({ name }) => name === source.eventTime);
  // With a default, a missing field is as good as a nullable one.
  const validities = fields.map(({ name, nullable, defaultSql }, i) => {
    const { valid = '', reason = '' } = checks.get(name) ?? {};
    const mayMiss = nullable || defaultSql !== null;
    return {
      valid: mayMiss
        ? `(${column(i)} IS NULL OR ${valid})`
        : `(${column(i)} IS NOT NULL AND ${valid})`,
      reason,
    };
  });
  const reasons = validities.map(({ valid, reason }) => `WHEN NOT ${valid} THEN ${reason}`);

  const lists = [
    `unnest(flatten(list_transform("#counts", lambda n: range(n)))) AS "#position"`,
    `unnest(flatten(list_transform("#counts", lambda n, i: list_resize([i], n, i)))) AS "#block"`,
    ...(inputs.age
      ? [`unnest(from_json($timestamps::VARCHAR, '["BIGINT"]')) AS "#timestamp"`]
      : []),
    ...(inputs.bytes ? [`unnest(from_json($sizes::VARCHAR, '["BIGINT"]')) AS "#size"`] : []),
    ...inputs.headerNames.map(
      (_, i) =>
        `unnest(from_json($header${String(i)}::VARCHAR, '["VARCHAR"]')) AS "#header${String(i)}"`,
    ),
  ];
  const lines = `${unnestLines(lists)} FROM (SELECT from_json($counts::VARCHAR, '["BIGINT"]') AS "#counts")`;

  const json = `SELECT *, CASE WHEN json_valid("#line") THEN from_json("#line", ${structure(fields, () => 'JSON')}) END AS r FROM (${lines})`;

  const texts = `SELECT * EXCLUDE (r), r IS NULL AS "#malformed", ${fields
    .map(({ name }, i) => `r.${quoteName(name)}::VARCHAR AS ${column(i)}`)
    .join(', ')} FROM (${json})`;

  const judged = `SELECT *, ${validities.map(({ valid }) => valid).join(' AND ')} AS "#alive", ${microsecondsOf(fields[time] as Field, column(time))} AS "#time" FROM (${texts})`;

  const named = [
    ...inputs.fields.map((name) => `${checks.get(name)?.value ?? ''} AS ${quoteName(name)}`),
    ...(inputs.age ? ['to_microseconds("#timestamp" * 1000 - "#time") AS age'] : []),
    ...(inputs.bytes ? ['coalesce("#size", strlen("#line")) AS bytes'] : []),
    ...(inputs.headerNames.length > 0
      ? [
          `struct_pack(${inputs.headerNames.map((name, i) => `${quoteName(name)} := "#header${String(i)}"`).join(', ')}) AS headers`,
        ]
      : []),
  ];
  const explained = `SELECT "#block", "#position", "#alive", "#time",
      CASE WHEN "#alive" THEN least("#time", $ceiling::BIGINT) END AS "#clamped",
      CASE WHEN NOT "#alive" THEN CASE
        WHEN "#malformed" AND NOT json_valid("#line") THEN 'malformed|the value is not valid JSON'
        WHEN json_type("#line") <> 'OBJECT' THEN concat('not-an-object|expected a JSON object, got ', CASE json_type("#line")
          WHEN 'ARRAY' THEN 'an array' WHEN 'VARCHAR' THEN 'a string' WHEN 'BOOLEAN' THEN 'a boolean' WHEN 'NULL' THEN 'null' ELSE 'a number' END)
        ${reasons.join('\n        ')} END END AS "#reason"
      ${named.map((sql) => `, ${sql}`).join('')} FROM (${judged})`;

  // The watermark in front of each record, not that of its block: so the verdict doesn't depend on
  // where blocks and steps begin. (0.13 µs a record.)
  const lateBy = `to_microseconds(greatest(0, greatest(
      max("#clamped") OVER (PARTITION BY "#block" ORDER BY "#position" ROWS BETWEEN UNBOUNDED PRECEDING AND 1 PRECEDING),
      from_json($highest::VARCHAR, '["BIGINT"]')["#block"]) - ${String(source.disorder * 1000)} - "#time")) AS late_by`;
  const late = inputs.lateBy ? `SELECT *, ${lateBy} FROM (${explained})` : explained;

  const rules = split.map(({ when }, i) => {
    const rule = `(${when.sql}\n)`;
    return `WHEN ${guarded ? `TRY(${rule})` : rule} THEN ${String(i)}`;
  });
  const verdicts = `SELECT "#block", "#position", "#clamped", "#reason",
      CASE WHEN NOT "#alive" THEN -1 ${rules.join(' ')} ELSE ${String(split.length)} END AS "#verdict" FROM (${late})`;

  const usual = [
    ...split.flatMap(({ to }, i) => (to === source.defaultBranch ? [i] : [])),
    split.length,
  ];
  return `SELECT "#block" AS block, count(*) AS records, max("#clamped") AS highest,
      [${[...split, null].map((_, i) => `count(*) FILTER ("#verdict" = ${String(i)})`).join(', ')}]::DOUBLE[] AS rules,
      list(("#position" * ${String(verdictRange)} + "#verdict" + 1)::DOUBLE) FILTER ("#verdict" NOT IN (${usual.join(', ')})) AS exceptions,
      list("#reason" ORDER BY "#position") FILTER ("#verdict" < 0) AS reasons
    FROM (${verdicts}) GROUP BY ALL ORDER BY ALL`;
}

const column = (i: number): string => quoteName(`#${String(i)}`);

/** For messages: how a rule writes a header. */
export const headerSyntax = (name: string): string => `headers[${quoteText(name)}]`;
