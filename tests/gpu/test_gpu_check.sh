#!/bin/sh
# launch/gpu-check on the simulated device: every step runs and is in the report; a step that fails
# is said to fail; without a GPU and without --simulated nothing is begun.
#     test_gpu_check.sh SOURCE_FOLDER BUILD_FOLDER
set -u
check=$1/launch/gpu-check
build=$2
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
n_bad=0
bad() {
	echo "BAD: $1"
	n_bad=$((n_bad + 1))
}
expect_lines() { # file pattern least what
	n=$(grep -c -- "$2" "$1")
	[ "$n" -ge "$3" ] || bad "$4: found $n, expected at least $3"
}

"$check" --simulated --built "$build" --as "H100 SXM 80 GB" --out "$folder/all" >"$folder/log" 2>&1
status=$?
report=$folder/all/report.txt
json=$folder/all/report.json
[ $status -eq 0 ] || { cat "$folder/log"; bad "all steps: exit status $status"; }
sed -n 2p "$report" | grep -q SIMULATED || bad "the report does not begin by saying that it is simulated"
for step in $("$check" --list | cut -d' ' -f1); do
	word=passed
	case $step in
	build) word=skipped ;;
	families | tp2-families) [ -d "$1/tests/simcuda/whole" ] || word=skipped ;;
	esac
	grep -Eq "^$step +$word " "$report" || bad "step $step: expected $word: $(grep "^$step " "$report" | head -1)"
	expect_lines "$json" "\"step\":\"$step\",\"status\":\"$word\"" 1 "step $step in report.json"
done
for job in device plug-in backend invariance memory overlap bench-gemm bench-attention bench-rows \
	bench-load bench-models allreduce killed-rank; do
	expect_lines "$json" "\"job\":\"$job\",\"simulated\":true" 1 "results of $job"
done
expect_lines "$json" '"slot":"attention"' 6 "attention against the CPU"
expect_lines "$json" '"same_bits":true' 20 "rows that keep their bits"
expect_lines "$json" '"measured_over_roofline":[0-9]' 4 "models beside their roofline"
[ "$(grep -c '"ok":false' "$json")" -eq 0 ] || bad "checks that are not ok"
if command -v python3 >/dev/null 2>&1; then
	python3 -m json.tool "$json" >/dev/null || bad "report.json is not JSON"
fi

POOLRANK_SIM_FAIL_COPY=5 "$check" --simulated --built "$build" --step devices --step backend \
	--out "$folder/broken" >"$folder/log" 2>&1
status=$?
[ $status -eq 1 ] || bad "a device that fails: exit status $status, expected 1"
grep -Eq '^backend +failed ' "$folder/broken/report.txt" || bad "a device that fails: the step is not said to fail"
grep -Eq '^devices +passed ' "$folder/broken/report.txt" || bad "a step before it is not said to pass"

if [ ! -e /dev/nvidiactl ] && ! command -v nvidia-smi >/dev/null 2>&1; then
	"$check" --out "$folder/none" >"$folder/log" 2>&1
	status=$?
	[ $status -eq 3 ] || bad "no GPU: exit status $status, expected 3"
	grep -q 'no NVIDIA driver' "$folder/log" || bad "no GPU: $(cat "$folder/log")"
	[ ! -e "$folder/none" ] || bad "no GPU: a report was begun"
fi
"$check" --step nothing >"$folder/log" 2>&1
[ $? -eq 2 ] || bad "a step that is not known is not refused"
[ $n_bad -eq 0 ] && echo "launch/gpu-check: as expected"
exit $((n_bad > 0))
