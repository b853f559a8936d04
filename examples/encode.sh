#!/bin/sh
# Prints what the model's own pooler yields for each argument.
#
#     MODEL=DIR ./encode.sh "a text"
set -eu
poolrank=${POOLRANK:-$(dirname "$0")/../build/poolrank}
exec "$poolrank" encode --model "$MODEL" "$@"
