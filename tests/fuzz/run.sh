#!/bin/sh
# Runs one fuzz target for a bounded time over its corpus; new inputs go to a folder that is removed.
#     run.sh TARGET CORPUS_FOLDER
# An input that crashes is kept as ./crash-… and named in the output.
set -eu
target=$1
corpus=$2
found=$(mktemp -d)
trap 'rm -rf "$found"' EXIT
mkdir -p "$found/new"
[ -d "$corpus" ] || mkdir -p "$found/corpus"
[ -d "$corpus" ] || corpus=$found/corpus
# Address space is not bounded (the sanitizer reserves terabytes); memory in use is.
"$target" -max_total_time="${POOLRANK_FUZZ_SECONDS:-20}" -timeout=10 -rss_limit_mb=2048 \
	-print_final_stats=1 "$found/new" "$corpus"
