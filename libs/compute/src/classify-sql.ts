import type { Source } from '@anabranch/definition';
import { checkField, microseconds } from './field-checks.ts';
import { structure } from './field-types.ts';
import { asCondition } from './conditions.ts';
import { quoteName, quoteText } from './quoting.ts';
import { unnestLines } from './record-columns.ts';

/** What split rules look at beside the fields. */
export interface RuleInputs {
  /** SQL of the rules, in their order. */
  readonly conditions: readonly string[];
  /** Names of fields. */
  readonly fields: readonly string[];
  readonly lateBy: boolean;
  readonly age: boolean;
  readonly bytes: boolean;
  readonly headerNames: readonly string[];
}

export interface ClassifyVariant {
  readonly guarded: boolean;
  readonly nul: boolean;
}

/** Positions and verdicts come as one number, position · this + 1 + verdict. */
export const verdictRange = 65_536;

/**
 * Decodes, validates and splits the lines of several blocks; a row per block, in their order:
 * `block`, `records`, `highest` (microseconds or NULL), `rules` (a list of counts, the default's
 * last), `exceptions` (a list of DOUBLE: position · 65536 + 1 + rule, or position · 65536 for a dead
 * record), and `dead`, the lines of the dead records in the order of their positions.
 *
 * Parameters: `$text`, the lines without the last line feed; `$counts` and `$highest`, JSON arrays
 * per block; `$diverting`, the same, where a rule diverts; `$ceiling`; `$timestamps`, `$sizes`, `$header0`…: JSON arrays per line, for the rules that
 * want them.
 *
 * Malformed JSON is found before it is parsed: `TRY(from_json(…))` costs five times as much where
 * one record in a thousand is malformed, as it sends the whole vector down a row-by-row path.
 *
 * @param variant.guarded a rule that fails on a record counts as one that doesn't hold. Unguarded the
 *   query fails, but is faster; the verdicts are the same.
 * @param variant.nul whether a line may hold an escaped NUL. Not a parameter of the query: with it, DuckDB
 *   plans the query anew each time (6 ms instead of 2).
 */
export function classifySql(
  source: Source,
  inputs: RuleInputs,
  { guarded, nul }: ClassifyVariant,
): string {
  const { fields, split } = source;
  const checks = fields.map((field, i) => ({
    field,
    text: column(i),
    raw: column(i, 'raw'),
    check: checkField(field, column(i), column(i, 'raw'), nul),
  }));
  const time = checks.find(({ field }) => field.name === source.eventTime);
  if (time === undefined) {
    throw new Error(`Source ${source.name} has no field ${source.eventTime}.`);
  }
  const validities = checks.map(({ field, text, check }) =>
    // With a default, a missing field is as good as a nullable one.
    field.nullable || field.defaultSql !== null
      ? `(${text} IS NULL OR ${check.valid})`
      : `(${text} IS NOT NULL AND ${check.valid})`,
  );
  const raws = checks.flatMap(({ raw, check }) =>
    check.raw === null ? [] : [`${check.raw} AS ${raw}`],
  );

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

  const texts = `SELECT * EXCLUDE (r)${checks.map(({ field, text }) => `, r.${quoteName(field.name)}::VARCHAR AS ${text}`).join('')} FROM (${json})`;

  const judged = `SELECT *, ${validities.join(' AND ')} AS "#alive", ${microseconds(time.field, time.text, time.raw)} AS "#time"
    FROM (SELECT *${raws.map((sql) => `, ${sql}`).join('')} FROM (${texts}))`;

  const named = [
    ...checks
      .filter(({ field }) => inputs.fields.includes(field.name))
      .map(({ field, check }) => `${check.value} AS ${quoteName(field.name)}`),
    ...(inputs.age
      ? [
          // Producers stamp what they like: a time that no calendar has makes no age.
          'CASE WHEN "#timestamp" BETWEEN 0 AND 253402300799999 THEN to_microseconds("#timestamp" * 1000 - "#time") END AS age',
        ]
      : []),
    ...(inputs.bytes ? ['coalesce("#size", strlen("#line")) AS bytes'] : []),
    ...(inputs.headerNames.length > 0
      ? [
          `struct_pack(${inputs.headerNames.map((name, i) => `${quoteName(name)} := "#header${String(i)}"`).join(', ')}) AS headers`,
        ]
      : []),
  ];
  const clamped = `SELECT "#block", "#position", "#line" IS NULL AS "#lacking", "#alive", "#time",
      CASE WHEN "#alive" THEN least("#time", $ceiling::BIGINT) END AS "#clamped",
      CASE WHEN NOT "#alive" THEN "#line" END AS "#dead"${named.map((sql) => `, ${sql}`).join('')} FROM (${judged})`;

  // The watermark in front of each record, not that of its block: so the verdict doesn't depend on
  // where blocks and steps begin. (0.13 µs a record.)
  const lateBy = `to_microseconds(greatest(0, greatest(
      max("#clamped") OVER (PARTITION BY "#block" ORDER BY "#position" ROWS BETWEEN UNBOUNDED PRECEDING AND 1 PRECEDING),
      from_json($highest::VARCHAR, '["BIGINT"]')["#block"]) - ${String(source.disorder * 1000)} - "#time")) AS late_by`;
  const late = inputs.lateBy ? `SELECT *, ${lateBy} FROM (${clamped})` : clamped;

  const rules = inputs.conditions.map((rule, i) => {
    const holds = guarded ? `TRY(${asCondition(rule)})` : rule;
    // A CASE and no AND, which might compute the rule, and fail on it, all the same.
    const now = split[i]?.divert
      ? `CASE WHEN from_json($diverting::VARCHAR, '["BOOLEAN"]')["#block"] THEN ${holds} ELSE false END`
      : holds;
    return `WHEN ${now} THEN ${String(i)}`;
  });
  const verdicts = `SELECT "#block", "#position", "#lacking", "#clamped", "#dead",
      CASE WHEN NOT "#alive" THEN -1 ${rules.join(' ')} ELSE ${String(split.length)} END AS "#verdict" FROM (${late})`;

  const usual = [
    ...split.flatMap(({ to }, i) => (to === source.defaultBranch ? [i] : [])),
    split.length,
  ];
  return `SELECT "#block" AS block, count(*) FILTER (NOT "#lacking") AS records, max("#clamped") AS highest,
      [${[...split, null].map((_, i) => `count(*) FILTER ("#verdict" = ${String(i)})`).join(', ')}]::DOUBLE[] AS rules,
      list(("#position" * ${String(verdictRange)} + "#verdict" + 1)::DOUBLE) FILTER ("#verdict" NOT IN (${usual.join(', ')})) AS exceptions,
      list("#dead" ORDER BY "#position") FILTER ("#verdict" < 0) AS dead
    FROM (${verdicts}) GROUP BY ALL ORDER BY ALL`;
}

const column = (i: number, what = ''): string => quoteName(`#${String(i)}${what}`);

/** For messages: how a rule writes a header. */
export const headerSyntax = (name: string): string => `headers[${quoteText(name)}]`;
