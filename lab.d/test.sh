# SPDX-License-Identifier: GPL-2.0 OR BSD-2-Clause
# shellcheck shell=bash
#
# ./lab test: first the lab's own tests, then the tests of everything else, in
# one guest per lane. A lane is a kernel with or without a memory BAR, or the
# comparison with what upstream's own tests say of the stock rxe.

TEST_LOGS=$LOGS/tests

cmd_test() { # [REGEX]
	local regex=${1:-} lane series vram options passed=0 failed=0 row lanes=()
	LANES=()
	mkdir -p "$TEST_LOGS"
	build_all
	mapfile -t lanes < <(
		guest_lanes
		if (($(count_guest_tests "$regex" -L dma) > 0)); then dma_lanes; fi
	)
	if [[ $regex == upstream ]]; then
		lanes=()
	else
		if (($(count_guest_tests "$regex") == 0)); then lanes=(); fi
		for row in "${lanes[@]}"; do
			read -r lane series vram options <<<"$row"
			choose_kernel "$series"
			if is_debug "$KERNEL"; then prepare_debug_kernel; fi
			build_all
		done
		run_lane lab "$CLONE/tests/lab/run-tests" "$regex"
	fi
	for row in "${lanes[@]}"; do
		read -r lane series vram options <<<"$row"
		# shellcheck disable=SC2086 # several words
		run_guest_lane "$lane" "$series" "$vram" $options -- \
			ctest --test-dir /lab/build/user --output-on-failure ${options:+-L dma} \
			${regex:+-R "$regex"}
	done
	if [[ $regex == upstream || -z $regex${OPT[quick]}${OPT[kernel]}${OPT[vram]} ]]; then
		run_guest_lane upstream "${OPT[kernel]:-$(installed_series | head -n 1)}" "${OPT[vram]:-64}" -- \
			tests/upstream/compare
	fi

	((${#LANES[@]})) || usage_error "no test matches '$regex'"
	printf '\n%-16s %7s %7s %8s  %s\n' lane passed failed seconds log
	for row in "${LANES[@]}"; do
		read -r lane p f seconds <<<"$row"
		printf '%-16s %7s %7s %8s  %s\n' "$lane" "$p" "$f" "$seconds" "$TEST_LOGS/$lane.log"
		passed=$((passed + p)) failed=$((failed + f))
	done
	printf '\n%d passed, %d failed\n' "$passed" "$failed"
	((failed == 0)) || exit 1
}

# Prints "LANE SERIES VRAM" for each guest that CTest is to run in: every kernel
# with a BAR, the newest without one, too.
guest_lanes() {
	local series vram newest all=() sizes
	mapfile -t all < <(installed_series)
	newest=${all[0]}
	if [[ -n ${OPT[kernel]} ]]; then
		all=("${OPT[kernel]}")
	elif [[ -n ${OPT[quick]} ]]; then
		all=("$newest")
	else
		all+=(debug)
	fi
	for series in "${all[@]}"; do
		sizes=(64)
		if [[ $series == "$newest" && -z ${OPT[quick]} ]]; then sizes+=(0); fi
		if [[ -n ${OPT[vram]} ]]; then sizes=("${OPT[vram]}"); fi
		for vram in "${sizes[@]}"; do
			if ((vram)); then
				echo "$series-bar$vram $series $vram"
			else
				echo "$series-ram $series 0"
			fi
		done
	done
}

# Prints "LANE SERIES VRAM OPTION..." for each guest in which the tests of DMA run
# once more, since it is another machine: with an IOMMU, or with another way, or
# none, from the device to the VRAM.
dma_lanes() {
	local series all=()
	if [[ -n ${OPT[quick]}${OPT[vram]}${OPT[iommu]} ]]; then return; fi
	mapfile -t all < <(installed_series)
	all=("${all[0]}" debug)
	if [[ -n ${OPT[kernel]} ]]; then all=("${OPT[kernel]}"); fi
	for series in "${all[@]}"; do
		echo "$series-iommu $series 64 --iommu"
	done
	series=${all[0]}
	echo "$series-switch $series 64 --p2p switch"
	echo "$series-switch-iommu $series 64 --p2p switch --iommu"
	echo "$series-no-p2p $series 64 --p2p none"
}

count_guest_tests() { # REGEX CTEST_OPTION...
	local regex=$1
	shift
	in_root ctest --test-dir /lab/build/user -N "$@" ${regex:+-R "$regex"} 2>/dev/null |
		sed -n 's/^Total Tests: //p'
}

run_guest_lane() { # LANE SERIES VRAM OPTION... -- CMD...
	local lane=$1 series=$2 vram=$3 timeout=1800
	shift 3
	[[ $series != debug ]] || timeout=$((timeout * DEBUG_SLOWER))
	[[ -z ${OPT[long]} ]] || timeout=86400
	run_lane "$lane" "$CLONE/lab" run --kernel "$series" --vram "$vram" ${OPT[mem]:+--mem "${OPT[mem]}"} \
		--smp "${OPT[smp]}" ${OPT[iommu]:+--iommu} ${OPT[long]:+--long} \
		--timeout "${OPT[timeout]:-$timeout}" "$@"
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
