# Makes the quick start's topic and produces its records, as `npm start` does: batch_data.csv at once
# and marked by the header bulk, then stream_data.csv over twelve seconds. Where the topic exists it
# only sees to it that there are as many partitions as PARTITIONS says; there are never fewer.
set -euo pipefail
server=kafka:19092
topic=quick-start-orders

topics() {
  /opt/kafka/bin/kafka-topics.sh --bootstrap-server "$server" --topic "$topic" "$@"
}

# headers, key and value with tabs between; records of a region keep their order
to_records() {
  tail -n +2 "$1" | awk -F, -v OFS='\t' -v headers="$2" '
    function text(value) { return value == "" ? "null" : "\"" value "\"" }
    { print headers, $3, sprintf("{\"column1\":%s,\"column2\":%s,\"region\":%s,\"event_time\":%s}", text($1), text($2), text($3), text($4)) }'
}

records() {
  description=$(topics --describe 2>/dev/null) || description=
  if [ -n "$description" ]; then
    partitions=$(sed -n 's/.*PartitionCount: *\([0-9]*\).*/\1/p' <<<"$description")
    [ "$partitions" -ge "$PARTITIONS" ] || topics --alter --partitions "$PARTITIONS" >&2
    echo "the topic $topic is there: nothing is produced again" >&2
    return
  fi
  topics --create --partitions "$PARTITIONS" >&2
  to_records /records/batch_data.csv bulk:true
  echo 'batch_data.csv: 4,000 records, marked by the header bulk' >&2
  to_records /records/stream_data.csv none | while mapfile -n 25 lines && [ ${#lines[@]} -gt 0 ]; do
    printf '%s' "${lines[@]}"
    sleep 0.1
  done
  echo 'stream_data.csv: 3,000 live events over twelve seconds' >&2
}

# The producer waits for the records, not they for it: a JVM can take seconds to start, and once the
# topic is there, ten seconds without a record mean that it is idle, and all that comes later is late.
# Three retries, the default, can be over before each partition of a new topic has its leader.
records | /opt/kafka/bin/kafka-console-producer.sh --bootstrap-server "$server" --topic "$topic" \
  --message-send-max-retries 1000 --command-property linger.ms=20 --reader-property parse.headers=true --reader-property parse.key=true \
  --reader-property null.marker=none
