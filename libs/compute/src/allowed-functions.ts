/**
 * The functions that expressions may call: those whose result depends on their arguments alone, in
 * every version of DuckDB, and whose cost is in proportion to their arguments. So none of the clock,
 * of chance, of settings, files and catalogs; no hash(), which DuckDB doesn't promise to keep; none
 * of the JSON functions that recurse, which one deeply nested value makes overflow the stack; no
 * repeat(), range() or format(), which a number in a record could make fill the memory. What the others
 * may make of a record is bounded in growth.ts: a function whose result can be longer than its
 * arguments needs an entry there. What they may take of time is bounded in expression-cost.ts: so does one
 * that takes longer than in proportion to its arguments.
 */
const names = `
  + - * / // % ^ ** & | ~ << >> || ^@ && @> <@ ->>
  ~~ !~~ ~~* !~~* ~~~ like_escape not_like_escape ilike_escape not_ilike_escape
  add subtract multiply divide mod fmod fdiv abs sign ceil ceiling floor round round_even roundbankers trunc even
  greatest least sqrt cbrt exp ln log log2 log10 pow power gcd lcm greatest_common_divisor least_common_multiple
  pi degrees radians sin cos tan cot asin acos atan atan2 sinh cosh tanh asinh acosh atanh
  isnan isinf isfinite nextafter signbit xor bit_count factorial
  nullif constant_or_null typeof
  ascii base64 to_base64 bar bin to_binary chr ord unicode concat concat_ws contains prefix suffix starts_with ends_with
  damerau_levenshtein editdist3 levenshtein hamming mismatches jaccard jaro_similarity jaro_winkler_similarity
  hex to_hex to_base instr position strpos lcase lower ucase upper left right left_grapheme right_grapheme
  len length length_grapheme char_length character_length strlen bit_length octet_length lpad rpad ltrim rtrim trim
  md5 sha1 sha256 nfc_normalize strip_accents replace translate reverse url_encode url_decode
  regexp_escape regexp_extract regexp_extract_all regexp_full_match regexp_matches regexp_replace regexp_split_to_array
  split split_part str_split str_split_regex string_split string_split_regex string_to_array
  substr substring substring_grapheme formatreadabledecimalsize formatreadablesize format_bytes parse_formatted_bytes
  century date_add date_diff date_part date_sub date_trunc datediff datepart datesub datetrunc
  day dayname dayofmonth dayofweek dayofyear days_in_month decade epoch epoch_ms epoch_ns epoch_us era hour isodow isoyear julian last_day
  make_date make_time make_timestamp make_timestamp_ms make_timestamp_ns make_timestamptz
  microsecond millennium millisecond minute month monthname nanosecond quarter second strftime strptime try_strptime
  time_bucket timezone timezone_hour timezone_minute to_timestamp week weekday weekofyear year yearweek normalized_interval
  to_centuries to_days to_decades to_hours to_microseconds to_millennia to_milliseconds to_minutes to_months to_quarters to_seconds to_weeks to_years
  json json_array json_array_length json_exists json_extract json_extract_path json_extract_path_text json_extract_string
  json_keys json_object json_quote json_type json_valid json_value to_json
  array_contains array_extract array_has array_has_all array_has_any array_indexof array_length array_position array_slice array_to_string
  element_at flatten list_concat list_contains list_distinct list_element list_extract list_filter list_has list_has_all list_has_any
  list_indexof list_position list_reverse list_slice list_sort list_transform list_unique list_value list_zip
  list_any_value list_avg list_bool_and list_bool_or list_count list_first list_last list_max list_median list_min list_sum
  cardinality map map_contains map_extract map_extract_value map_from_entries map_keys map_values
  row struct_extract struct_pack
  uuid_extract_timestamp uuid_extract_version
`;

export const allowedFunctions: ReadonlySet<string> = new Set(names.trim().split(/\s+/));

/** Whose second argument says how long the result gets. */
export const paddingFunctions: ReadonlySet<string> = new Set(['lpad', 'rpad']);
export const longestPadding = 1000;

/** Names that SQL takes for the clock or the environment, with or without parentheses. */
export const environmentNames: ReadonlySet<string> = new Set(
  `current_date current_time current_timestamp localtime localtimestamp now today ago get_current_time get_current_timestamp
  transaction_timestamp current_localtime current_localtimestamp random setseed uuid uuidv4 uuidv7 gen_random_uuid
  current_user session_user user current_role current_catalog current_database current_schema current_schemas
  current_setting getenv getvariable version txid_current nextval currval pg_sleep sleep_ms`
    .trim()
    .split(/\s+/),
);
