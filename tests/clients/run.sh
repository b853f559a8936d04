#!/bin/sh
# Runs a test file of this folder with the Python of launch/clients-env.
#     run.sh BUILD FILE [arguments of unittest]
# Exit status 77 when the environment cannot be made.
set -eu
here=$(cd "$(dirname "$0")" && pwd)
build=$1 file=$2
shift 2
# A "SKIPPED: …" line in place of a path.
python=$("$here/../../launch/clients-env" "$build") || {
	status=$?
	echo "$python"
	exit $status
}
exec "$python" -B "$here/$file" "$@"
