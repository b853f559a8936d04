#!/bin/sh
# Classifies each argument: the probability of each label.
#
#     MODEL=DIR ./classify.sh "a text" "another text"
set -eu
poolrank=${POOLRANK:-$(dirname "$0")/../build/poolrank}
exec "$poolrank" classify --model "$MODEL" "$@"
