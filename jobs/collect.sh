#!/usr/bin/env bash
# jobs/collect.sh STATE OUT MOST: pack the newest models of jobs/zoo.py, finished ones first, those that were brought
# already left out, into at most MOST files of OUT.
set -u
state=$1 out=$2 most=$3
mkdir -p "$out" "$state/brought"
count=0
pack() {
  local name=$1 kind=$2
  [ -e "$state/brought/$name-$kind" ] && return
  [ "$count" -ge "$most" ] && return
  tar -C "$state" -czf "$out/$name.tar.gz" "$name/model" "$name/log.jsonl" "$name/recipe.json" && count=$((count + 1))
  [ "$kind" = done ] && touch "$state/brought/$name-$kind"
}
for folder in "$state"/*/; do
  name=$(basename "$folder")
  [ -e "$folder/done" ] && pack "$name" done
done
if [ "${4:-}" = all ]; then
  for folder in "$state"/*/; do
    name=$(basename "$folder")
    [ ! -e "$folder/done" ] && [ -e "$folder/model/config.json" ] && pack "$name" part
  done
fi
tail -qn 1 "$state"/*/log.jsonl | cut -c1-150
