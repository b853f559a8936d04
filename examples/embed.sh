#!/bin/sh
# Embeds each argument.
#
#     MODEL=DIR ./embed.sh "a text" "another text"
set -eu
poolrank=${POOLRANK:-$(dirname "$0")/../build/poolrank}
exec "$poolrank" embed --model "$MODEL" "$@"
