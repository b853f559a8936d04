#!/bin/sh
# Scores documents against a query (first argument).
#
#     MODEL=DIR ./score.sh "a query" "a document" "another document"
set -eu
poolrank=${POOLRANK:-$(dirname "$0")/../build/poolrank}
exec "$poolrank" score --model "$MODEL" "$@"
