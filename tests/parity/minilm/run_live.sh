#!/bin/sh
# As run.sh, with sentence-transformers run here and now in place of the committed answers.
#     run_live.sh POOLRANK MINILM_CHECK [OPTION…]
# Python: $POOLRANK_REFERENCE_PYTHON, else python3; skipped (77) when it has no sentence-transformers.
set -eu
here=$(cd "$(dirname "$0")" && pwd)
program=$1
check=$2
shift 2
python=${POOLRANK_REFERENCE_PYTHON:-python3}
if ! "$python" -c "import sentence_transformers" 2>/dev/null; then
	echo "SKIPPED: $python has no sentence-transformers (POOLRANK_REFERENCE_PYTHON names another)"
	exit 77
fi
if ! model=$("$here/../../../launch/fetch-minilm"); then
	echo "SKIPPED: the real weights could not be fetched"
	exit 77
fi
golden=$(mktemp)
trap 'rm -f "$golden"' EXIT
"$python" "$here/make_golden.py" "$model" "$golden"
"$here/run.sh" "$program" "$check" "$golden" "$@"
