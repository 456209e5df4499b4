# SPDX-License-Identifier: GPL-2.0 OR BSD-2-Clause
# shellcheck shell=bash
#
# ./lab test: the lab's own tests, and the tests of everything else in one guest
# per lane, two lanes at a time. A lane is a kernel with or without a memory BAR, a
# machine on which DMA takes another way, our packages on a host that has nothing else
# of us, or the comparison with what upstream's own tests say of the stock rxe.

TEST_LOGS=$LOGS/tests

cmd_test() { # [REGEX]
	local regex=${1:-} lane series vram options row lanes=() which
	mkdir -p "$TEST_LOGS"
	if [[ $regex == package ]]; then # which builds what it needs
		add_lane package "$CLONE/tests/package/run"
		run_and_sum_up "$regex"
		return
	fi
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
		add_lane lab "$CLONE/tests/lab/run-tests" "$regex"
	fi
	for row in "${lanes[@]}"; do
		read -r lane series vram options <<<"$row"
		which=()
		if [[ -n $options ]]; then
			which=(-L dma)
		elif [[ $row != "${lanes[0]}" && -z $regex ]]; then
			which=(-LE '^(host|once)$') # what no other kernel makes different
		fi
		# shellcheck disable=SC2086 # several words
		add_guest_lane "$lane" "$series" "$vram" $options -- \
			ctest --test-dir /lab/build/user --output-on-failure "${which[@]}" \
			${regex:+-R "$regex"}
	done
	if [[ -z $regex${OPT[quick]}${OPT[kernel]}${OPT[vram]} ]]; then
		add_lane package "$CLONE/tests/package/run"
	fi
	if [[ $regex == upstream || -z $regex${OPT[quick]}${OPT[kernel]}${OPT[vram]} ]]; then
		add_guest_lane upstream "${OPT[kernel]:-$(installed_series | head -n 1)}" "${OPT[vram]:-64}" -- \
			tests/upstream/compare
	fi
	run_and_sum_up "$regex"
}
run_and_sum_up() { # REGEX
	run_lanes
	show_lanes
	sum_up "$1"
}

# A lane is an array of words: LANE_COMMAND, of all lanes one after the other, cut
# into pieces by LANE_AT and LANE_WORDS. NAMES are the lanes in the order in which
# they start, and in which they are shown.
NAMES=() LANE_COMMAND=() LANE_AT=() LANE_WORDS=()

add_lane() { # LANE CMD...
	NAMES+=("$1")
	shift
	LANE_AT+=("${#LANE_COMMAND[@]}")
	LANE_WORDS+=($#)
	LANE_COMMAND+=("$@")
}

# Starts all lanes, --jobs of them at a time, in the background. Much of what tests do
# is waiting, so two guests on two CPUs need little more time than one. Each writes
# LANE.log and at its end LANE.end, "STATUS SECONDS".
run_lanes() {
	local lane
	for lane in "${NAMES[@]}"; do rm -f "$TEST_LOGS/$lane".{log,pid,end}; done
	set -m
	start_lanes </dev/null &
	RUNNER_PID=$!
	set +m
	ON_EXIT+=(stop_lanes)
}
start_lanes() {
	local i running=0
	trap - EXIT INT TERM HUP
	for i in "${!NAMES[@]}"; do
		if ((running == OPT[jobs])); then
			wait -n || true
			running=$((running - 1))
		fi
		run_lane "${NAMES[i]}" "${LANE_COMMAND[@]:LANE_AT[i]:LANE_WORDS[i]}" &
		echo $! >"$TEST_LOGS/${NAMES[i]}.pid"
		running=$((running + 1))
	done
	wait
}
run_lane() { # LANE CMD...
	local lane=$1 start=$SECONDS status=0
	shift
	"$@" >"$TEST_LOGS/$lane.log" 2>&1 || status=$?
	echo "$status $((SECONDS - start))" >"$TEST_LOGS/$lane.end"
}
stop_lanes() {
	[[ -n $RUNNER_PID ]] || return 0
	kill -TERM -- "-$RUNNER_PID" 2>/dev/null || true
	local i
	for ((i = 0; i < 100; i++)); do # their guests go with them
		kill -0 -- "-$RUNNER_PID" 2>/dev/null || return 0
		sleep 0.1
	done
}
RUNNER_PID=''

# Prints what the lanes print, one after the other, as it comes.
show_lanes() {
	local lane log
	for lane in "${NAMES[@]}"; do
		log=$TEST_LOGS/$lane.log
		until [[ -s $TEST_LOGS/$lane.pid && -e $log ]]; do sleep 0.2; done
		printf '\n== %s\n' "$lane"
		# In the background, as a signal has to wait for what is in the foreground.
		tail -n +1 -f -s 0.3 --pid="$(cat "$TEST_LOGS/$lane.pid")" "$log" &
		wait $! || true
	done
	wait "$RUNNER_PID" || true
	RUNNER_PID=''
}

# Counts what the lanes' logs say, which are CTest's reports or have the same shape.
sum_up() { # REGEX
	local lane log status seconds p f passed=0 failed=0 rows=()
	for lane in "${NAMES[@]}"; do
		log=$TEST_LOGS/$lane.log
		# Without it what ran the lane was killed.
		read -r status seconds <"$TEST_LOGS/$lane.end" 2>/dev/null || status=1 seconds=0
		p=$(grep -cE '^ *[0-9]+/[0-9]+ Test +#.* Passed +[0-9.]+ sec' "$log" || true)
		f=$(grep -E '^ *[0-9]+/[0-9]+ Test +#.*(\*\*\*|Not Run)' "$log" | grep -cv '\*\*\*Skipped' || true)
		# A splat, a panic, a timeout: no test of its own failed, the lane did.
		if ((status != 0 && f == 0)); then f=1; fi
		((p + f)) || continue # REGEX chose none of this lane
		rows+=("$(printf '%-16s %7s %7s %8s  %s' "$lane" "$p" "$f" "$seconds" "$log")")
		passed=$((passed + p)) failed=$((failed + f))
	done
	((${#rows[@]})) || usage_error "no test matches '$1'"
	printf '\n%-16s %7s %7s %8s  %s\n' lane passed failed seconds log
	printf '%s\n' "${rows[@]}"
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
	if [[ -n ${OPT[quick]}${OPT[vram]}${OPT[iommu]} || ${OPT[p2p]} != host ]]; then return; fi
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

add_guest_lane() { # LANE SERIES VRAM OPTION... -- CMD...
	local lane=$1 series=$2 vram=$3 timeout=3600
	shift 3
	[[ $series != debug ]] || timeout=$((timeout * DEBUG_SLOWER))
	[[ -z ${OPT[long]} ]] || timeout=86400
	add_lane "$lane" "$CLONE/lab" run --kernel "$series" --vram "$vram" ${OPT[mem]:+--mem "${OPT[mem]}"} \
		--smp "${OPT[smp]}" ${OPT[iommu]:+--iommu} ${OPT[long]:+--long} \
		--p2p "${OPT[p2p]}" ${OPT[times]:+--times} --timeout "${OPT[timeout]:-$timeout}" "$@"
}
