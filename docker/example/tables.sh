# Waits until every record of the quick start is applied and every window is final; then shows them.
set -euo pipefail
ask() { psql --no-psqlrc --quiet --tuples-only --no-align --command "$1" 2>/dev/null; }
show() {
  printf '\n%s\n' "$1"
  psql --no-psqlrc --quiet --pset footer=off --command "$2"
}

echo 'waiting for the records to be applied and for their windows to be final'
until [ "$(ask "SELECT sum(aggregated + filtered + dead) >= 7000 AND sum(outstanding) = 0
                  AND NOT EXISTS (SELECT FROM per_minute WHERE status = 'provisional')
                FROM anabranch.balance WHERE table_name = 'per_minute'")" = t ]; do
  sleep 1
done

show 'per_minute: windows with records from both branches' "
  SELECT to_char(window_start, 'HH24:MI') AS minute, region, records, total, stream_records, batch_records, revision, status
  FROM per_minute WHERE stream_records > 0 AND batch_records > 0 ORDER BY window_start, region LIMIT 8"
show 'The ledger: every record in the topic counts exactly once' '
  SELECT table_name AS table, records AS in, aggregated, filtered, dead, outstanding FROM anabranch.balance ORDER BY 1'
cat <<'END'
Your turn, in another terminal:
    docker compose --file docker/compose.yaml exec postgres psql -h localhost -U anabranch
    select * from per_minute order by window_start desc limit 10;
END
