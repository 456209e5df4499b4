# SPDX-License-Identifier: GPL-2.0 OR BSD-2-Clause
# shellcheck shell=bash
#
# ./lab test: first the lab's own tests, then the tests of everything else, in
# one guest per lane. A lane is a kernel series with or without a memory BAR.

TEST_LOGS=$LOGS/tests

cmd_test() { # [REGEX]
	local regex=${1:-} series vram in_guest passed=0 failed=0 lane row
	local all_series=() all_vram=(64 0) releases=() timeout=1800
	[[ -z ${OPT[long]} ]] || timeout=86400
	LANES=()
	mapfile -t all_series < <(installed_series)
	if [[ -n ${OPT[quick]} ]]; then
		all_series=("${all_series[0]}")
		all_vram=(64)
	fi
	if [[ -n ${OPT[kernel]} ]]; then all_series=("${OPT[kernel]}"); fi
	if [[ -n ${OPT[vram]} ]]; then all_vram=("${OPT[vram]}"); fi
	for series in "${all_series[@]}"; do
		choose_kernel "$series"
		releases+=("$KERNEL")
	done
	choose_kernel "${all_series[0]}"
	build_all "${releases[@]}"
	mkdir -p "$TEST_LOGS"

	in_guest=$(count_guest_tests "$regex")
	run_lane lab "$CLONE/tests/lab/run-tests" "$regex"
	if ((in_guest)); then
		for series in "${all_series[@]}"; do
			for vram in "${all_vram[@]}"; do
				lane=$series-$( ((vram)) && echo "bar$vram" || echo ram)
				run_lane "$lane" "$CLONE/lab" run --kernel "$series" --vram "$vram" \
					${OPT[mem]:+--mem "${OPT[mem]}"} --smp "${OPT[smp]}" ${OPT[iommu]:+--iommu} \
					${OPT[long]:+--long} --timeout "${OPT[timeout]:-$timeout}" -- \
					ctest --test-dir /lab/build/user --output-on-failure ${regex:+-R "$regex"}
			done
		done
	fi

	((${#LANES[@]})) || usage_error "no test matches '$regex'"
	printf '\n%-12s %7s %7s %8s  %s\n' lane passed failed seconds log
	for row in "${LANES[@]}"; do
		read -r lane p f seconds <<<"$row"
		printf '%-12s %7s %7s %8s  %s\n' "$lane" "$p" "$f" "$seconds" "$TEST_LOGS/$lane.log"
		passed=$((passed + p)) failed=$((failed + f))
	done
	printf '\n%d passed, %d failed\n' "$passed" "$failed"
	((failed == 0)) || exit 1
}

count_guest_tests() { # REGEX
	in_root ctest --test-dir /lab/build/user -N ${1:+-R "$1"} 2>/dev/null |
		sed -n 's/^Total Tests: //p'
}

# Runs CMD and adds "LANE PASSED FAILED SECONDS" to LANES. What CMD prints is
# CTest's report or has the same shape.
run_lane() { # LANE CMD...
	local lane=$1 log=$TEST_LOGS/$1.log start=$SECONDS status=0 passed failed
	shift
	printf '\n== %s\n' "$lane"
	"$@" </dev/null 2>&1 | tee "$log" || status=$?
	passed=$(grep -cE '^ *[0-9]+/[0-9]+ Test +#.* Passed +[0-9.]+ sec' "$log" || true)
	failed=$(grep -cE '^ *[0-9]+/[0-9]+ Test +#.*(\*\*\*|Not Run)' "$log" || true)
	failed=$((failed - $(grep -cE '^ *[0-9]+/[0-9]+ Test +#.*\*\*\*Skipped' "$log" || true)))
	# A splat, a panic, a timeout: no test of its own failed, the lane did.
	if ((status != 0 && failed == 0)); then failed=1; fi
	((passed + failed)) || return 0 # REGEX chose none of this lane
	LANES+=("$lane $passed $failed $((SECONDS - start))")
}
