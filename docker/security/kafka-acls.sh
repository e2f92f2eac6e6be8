#!/bin/bash
# Grants each service what it does in Kafka, and nothing else.
#   kafka-acls.sh [--dry-run] [--remove] [--no-create] [--user SERVICE=NAME]… SOURCE=TOPIC… -- OPTIONS
# SOURCE=TOPIC    a source of the definition and its topic; give all of them
# OPTIONS         of Kafka's own kafka-acls.sh, such as --bootstrap-server kafka:9093 --command-config admin.properties
# --user          the user that a service logs in as; default: anabranch-SERVICE
# --no-create     you make the internal topics yourself: ingest may not
# --remove        takes the same grants away
# --dry-run       prints the commands and runs none
# KAFKA_ACLS names Kafka's tool where it isn't kafka-acls.sh on the PATH.
set -euo pipefail

action=--add
dry_run=
create=yes
declare -A users=(
  [ingest]=anabranch-ingest
  [stream-processor]=anabranch-stream-processor
  [batch-processor]=anabranch-batch-processor
  [fusion]=anabranch-fusion
)
sources=()

fail() {
  echo "$1" >&2
  exit 64
}

while [ $# -gt 0 ]; do
  case $1 in
    --dry-run) dry_run=yes ;;
    --remove) action=--remove ;;
    --no-create) create= ;;
    --user)
      shift
      service=${1%%=*}
      [[ ${1-} == *=?* && -n ${users[$service]-} ]] || fail "--user must be SERVICE=NAME, SERVICE one of: ${!users[*]}"
      users[$service]=${1#*=}
      ;;
    --)
      shift
      break
      ;;
    ?*=?*) sources+=("$1") ;;
    *) fail "What is $1? See the first lines of $0" ;;
  esac
  shift
done
[ ${#sources[@]} -gt 0 ] || fail "Name at least one source as SOURCE=TOPIC. See the first lines of $0"
options=("$@")

# grant SERVICE OPERATIONS… RESOURCES…, as kafka-acls.sh takes them
grant() {
  local service=$1
  shift
  local command=("${KAFKA_ACLS:-kafka-acls.sh}" ${options[@]+"${options[@]}"} "$action")
  if [ "$action" = --remove ]; then
    command+=(--force)
  fi
  command+=(--allow-principal "User:${users[$service]}" "$@")
  if [ -n "$dry_run" ]; then
    printf '%s' "${command[0]}"
    printf ' %q' "${command[@]:1}"
    echo
  else
    "${command[@]}"
  fi
}

# Transactions are named after the service, the source and, behind the last dot, the instance.
transactions() {
  grant "$1" --operation Write --resource-pattern-type prefixed --transactional-id "anabranch.$1.$2."
}

for given in "${sources[@]}"; do
  source=${given%%=*}
  topic=${given#*=}
  stream=$topic.stream batch=$topic.batch results=$topic.results dead=$topic.dead

  grant ingest --operation Read --topic "$topic" --group "anabranch.ingest.$source"
  grant ingest --operation Write --topic "$stream" --topic "$batch" --topic "$results" --topic "$dead"
  # How far the stream is, where a rule diverts.
  grant ingest --operation Describe --group "anabranch.stream-processor.$source"
  # It makes the internal topics, adds partitions when the source gets some, and checks their settings.
  grant ingest ${create:+--operation Create --operation Alter} --operation Describe --operation DescribeConfigs \
    --topic "$stream" --topic "$batch" --topic "$results" --topic "$dead"
  transactions ingest "$source"

  grant stream-processor --operation Read --topic "$stream" --group "anabranch.stream-processor.$source"
  grant stream-processor --operation Write --topic "$results" --topic "$dead"
  transactions stream-processor "$source"

  grant batch-processor --operation Read --topic "$batch" --group "anabranch.batch-processor.$source"
  grant batch-processor --operation Write --topic "$results" --topic "$dead"
  transactions batch-processor "$source"

  grant fusion --operation Read --topic "$results" --topic "$dead" --group "anabranch.fusion.$source"
  # How many partitions the source has: no window is final before all of them are.
  grant fusion --operation Describe --topic "$topic"
done
