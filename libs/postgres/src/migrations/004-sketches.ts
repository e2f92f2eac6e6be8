/**
 * Merge and result of the sketches that libs/compute makes; the forms of their states are explained in its
 * distinct-sketch.ts and quantile-sketch.ts. What views call uses nothing else of this schema, so that a
 * role needs no right on it.
 */
export const sketches = `
CREATE FUNCTION anabranch.merge_registers(a bit varying, b bit varying) RETURNS bit varying
LANGUAGE plpgsql IMMUTABLE STRICT PARALLEL SAFE AS $$
DECLARE
  registers CONSTANT int := 4096;
  longest_list CONSTANT int := 20 * 128;
  list bit varying;
  dense bit varying;
  entry int;
  planes_a bit varying;
  planes_b bit varying;
  plane_a bit(4096);
  plane_b bit(4096);
  equal bit(4096) := ~repeat('0', 4096)::bit(4096);
  greater bit varying := repeat('0', 4096)::bit(4096);
BEGIN
  IF length(a) <= longest_list AND length(b) <= longest_list THEN
    SELECT ('x' || string_agg(lpad(to_hex(e), 5, '0'), '' ORDER BY e))::bit varying INTO list
    FROM (SELECT max(e) AS e FROM (
      SELECT substring(a FROM i * 20 + 1 FOR 20)::bit(20)::int AS e FROM generate_series(0, length(a) / 20 - 1) i
      UNION ALL
      SELECT substring(b FROM i * 20 + 1 FOR 20)::bit(20)::int FROM generate_series(0, length(b) / 20 - 1) i
    ) entries GROUP BY e >> 8) greatest;
    IF length(list) <= longest_list THEN
      RETURN list;
    END IF;
  ELSIF length(a) <= longest_list THEN
    list := a;
  ELSIF length(b) <= longest_list THEN
    list := b;
  END IF;
  IF list IS NOT NULL THEN
    dense := repeat('0', 6 * registers)::bit varying;
    FOR i IN 0 .. length(list) / 20 - 1 LOOP
      entry := substring(list FROM i * 20 + 1 FOR 20)::bit(20)::int;
      FOR plane IN 0 .. 5 LOOP
        IF (entry >> plane) & 1 = 1 THEN
          dense := set_bit(dense, plane * registers + (entry >> 8), 1);
        END IF;
      END LOOP;
    END LOOP;
    IF length(a) <= longest_list AND length(b) <= longest_list THEN
      RETURN dense;
    END IF;
  END IF;
  planes_a := CASE WHEN length(a) <= longest_list THEN dense ELSE a END;
  planes_b := CASE WHEN length(b) <= longest_list THEN dense ELSE b END;
  -- All registers are compared at once, from their highest bit down.
  FOR plane IN REVERSE 5 .. 0 LOOP
    plane_a := substring(planes_a FROM plane * registers + 1 FOR registers);
    plane_b := substring(planes_b FROM plane * registers + 1 FOR registers);
    greater := greater | (equal & plane_a & ~plane_b);
    equal := equal & ~(plane_a # plane_b);
  END LOOP;
  greater := greater || greater || greater || greater || greater || greater;
  RETURN (planes_a & greater) | (planes_b & ~greater);
END $$;
COMMENT ON FUNCTION anabranch.merge_registers(bit varying, bit varying) IS 'The greater one of each register of two HyperLogLogs.';

CREATE AGGREGATE anabranch.merge_registers(bit varying) (SFUNC = anabranch.merge_registers, STYPE = bit varying, PARALLEL = SAFE);

-- The estimate of Ertl (2017, "New cardinality estimation algorithms for HyperLogLog sketches", algorithm
-- 6): without bias from none to 2^60, without tables and without a change of formula in between.
CREATE FUNCTION anabranch.distinct_values(registers bit varying) RETURNS bigint
LANGUAGE plpgsql IMMUTABLE STRICT PARALLEL SAFE AS $$
DECLARE
  m CONSTANT int := 4096;
  highest CONSTANT int := 52;
  counts int[] := array_fill(0, ARRAY[53], ARRAY[0]);
  entry int;
  having_rank bit(4096);
  plane bit(4096);
  left_over int := 4096;
  z double precision;
  before double precision;
  x double precision;
  y double precision;
BEGIN
  IF length(registers) <= 20 * 128 THEN
    FOR i IN 0 .. length(registers) / 20 - 1 LOOP
      entry := substring(registers FROM i * 20 + 1 FOR 20)::bit(20)::int & 255;
      counts[entry] := counts[entry] + 1;
    END LOOP;
    counts[0] := m - length(registers) / 20;
  ELSE
    FOR rank IN 0 .. highest LOOP
      having_rank := ~repeat('0', 4096)::bit(4096);
      FOR i IN 0 .. 5 LOOP
        plane := substring(registers FROM i * m + 1 FOR m);
        having_rank := having_rank & CASE WHEN (rank >> i) & 1 = 1 THEN plane ELSE ~plane END;
      END LOOP;
      counts[rank] := bit_count(having_rank);
      left_over := left_over - counts[rank];
      EXIT WHEN left_over = 0;
    END LOOP;
  END IF;
  IF counts[0] = m THEN
    RETURN 0;
  END IF;

  z := 0;
  x := 1 - counts[highest]::double precision / m;
  IF x > 0 AND x < 1 THEN
    y := 1;
    z := 1 - x;
    LOOP
      x := sqrt(x);
      before := z;
      y := y / 2;
      z := z - (1 - x) * (1 - x) * y;
      EXIT WHEN z = before;
    END LOOP;
    z := z / 3;
  END IF;
  z := m * z;
  FOR rank IN REVERSE highest - 1 .. 1 LOOP
    z := (z + counts[rank]) / 2;
  END LOOP;
  x := counts[0]::double precision / m;
  IF x > 0 THEN
    y := 1;
    before := x;
    z := z + m * x;
    -- The sum of x^(2^k) 2^(k-1), until it doesn't grow.
    LOOP
      x := x * x;
      EXIT WHEN before + x * y = before;
      before := before + x * y;
      z := z + m * x * y;
      y := y * 2;
    END LOOP;
  END IF;
  RETURN round(m / (2 * ln(2::double precision)) * m / z)::bigint;
END $$;
COMMENT ON FUNCTION anabranch.distinct_values(bit varying) IS 'How many different values a HyperLogLog of 4,096 registers has seen; standard error 1.6 %.';

CREATE FUNCTION anabranch.quantile_value(q numeric, total bigint, below bigint, zeros bigint, negative numeric, positive numeric)
RETURNS double precision
LANGUAGE plpgsql IMMUTABLE PARALLEL SAFE AS $$
DECLARE
  digits CONSTANT int := 12;
  -- From the smallest value on, as percentile_disc counts them but for the rounding.
  rank bigint := floor(q * (total - 1));
  is_negative boolean := rank < below;
  side text;
  counts bytea;
  last int;
  bucket int;
  lower double precision;
  upper double precision;
BEGIN
  IF coalesce(total, 0) = 0 THEN
    RETURN NULL;
  END IF;
  IF is_negative THEN
    -- The largest in size come first.
    rank := below - 1 - rank;
    side := negative::text;
  ELSE
    rank := rank - below - zeros;
    IF rank < 0 THEN
      RETURN 0;
    END IF;
    side := positive::text;
  END IF;
  IF side IS NULL THEN
    -- Counts that contradict each other: somebody wrote to the state.
    RETURN NULL;
  END IF;
  last := (length(side) - 1) / digits;
  bucket := (length(side) - length(rtrim(side, '0'))) / digits;
  counts := convert_to(lpad(side, (last + 1) * digits, '0'), 'SQL_ASCII');
  LOOP
    rank := rank - convert_from(substring(counts FROM (last - bucket) * digits + 1 FOR digits), 'SQL_ASCII')::bigint;
    EXIT WHEN rank < 0 OR bucket >= last;
    bucket := bucket + 1;
  END LOOP;
  IF bucket >= 93 * 50 THEN
    RETURN CASE WHEN is_negative THEN '-Infinity' ELSE 'Infinity' END;
  END IF;
  lower := 1 + (bucket % 50) / 50.0::double precision;
  upper := 1 + (bucket % 50 + 1) / 50.0::double precision;
  RETURN CASE WHEN is_negative THEN -1 ELSE 1 END
    * power(2::double precision, bucket / 50 - 30) * 2 * lower * upper / (lower + upper);
END $$;
COMMENT ON FUNCTION anabranch.quantile_value(numeric, bigint, bigint, bigint, numeric, numeric) IS 'The value at a rank, from counts of values by their size: at most 1 % off.';
`;
