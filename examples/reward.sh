#!/bin/sh
# Scores answers with a reward model, one number each.
#
#     MODEL=DIR ./reward.sh "Question ... Answer ..."
set -eu
poolrank=${POOLRANK:-$(dirname "$0")/../build/poolrank}
exec "$poolrank" reward --model "$MODEL" "$@"
