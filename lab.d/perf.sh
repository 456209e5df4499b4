# SPDX-License-Identifier: GPL-2.0 OR BSD-2-Clause
# shellcheck shell=bash
#
# ./lab perf: runs the suites, each a program pfn-perf-SUITE (perf/), in guests, and
# makes one run of what they have measured: JSON, a page, or a comparison of two
# (pfn-perf-report). docs/measuring.md says what is measured and how.

# One guest for all of these, in this order; dma needs two of its own.
readonly PERF_SUITES=(bw lat reg move scale mpi)
readonly PERF_MEM=4096 # 1 GiB to measure, and its twin's metadata

perf_suites() { echo "${PERF_SUITES[@]}" dma; }

# Says what is wrong with the command line of perf, if anything is.
check_perf_options() { # WORD...
	local word
	if [[ -n ${OPT[compare]} ]]; then
		(($# == 2)) || usage_error "perf --compare takes two files, OLD and NEW"
		for word in "$@"; do
			[[ -r $word ]] || usage_error "cannot read '$word'"
		done
		return
	fi
	[[ -z ${OPT[iommu]} ]] ||
		usage_error "perf measures with an IOMMU and without; it has no option --iommu"
	for word in "$@"; do
		[[ " $(perf_suites) " == *" $word "* ]] ||
			usage_error "there is no suite '$word'; perf takes: $(perf_suites)"
	done
	# Better now than when all has been measured.
	for word in "${OPT[json]}" "${OPT[html]}"; do
		[[ -z $word || -w $word || (! -e $word && -w $(dirname -- "$word")) ]] ||
			usage_error "cannot write '$word'"
	done
	[[ -z ${OPT[figures]} || (-d ${OPT[figures]} && -w ${OPT[figures]}) ]] ||
		usage_error "'${OPT[figures]}' is no directory to write to"
	[[ -z ${OPT[format]} || -n ${OPT[figures]} ]] ||
		usage_error "--format is for the files of --figures DIR"
}

cmd_perf() { # SUITE... | OLD NEW
	build_all
	# The one place that guest, root and host share, and that is ours.
	PERF_DIR=$(mktemp -d "$CLONE/.perf.XXXXXX")
	ON_EXIT+=(remove_perf_dir)
	if [[ -n ${OPT[compare]} ]]; then
		perf_compare "$@"
	else
		perf_measure "$@"
	fi
}
remove_perf_dir() { rm -rf -- "$PERF_DIR"; }

perf_report() { in_root /lab/build/user/bin/pfn-perf-report "$@"; }

perf_compare() { # OLD NEW
	local status=0
	cp -- "$1" "$PERF_DIR/old"
	cp -- "$2" "$PERF_DIR/new"
	perf_report compare "$PERF_DIR/old" "$PERF_DIR/new" || status=$?
	((status < 2)) || die "these two cannot be compared"
	exit "$status"
}

# Whatever fails, what has been measured is kept, and the rest is still tried.
perf_measure() { # SUITE...
	local suite in_one_guest=() wanted=() failed='' status=0
	(($#)) || set -- "${PERF_SUITES[@]}" dma
	for suite in "$@"; do
		[[ $suite == dma ]] || in_one_guest+=("$suite")
	done
	if ((${#in_one_guest[@]})); then
		wanted+=("${in_one_guest[@]}")
		perf_guest '' -- "${in_one_guest[@]}" || status=$?
	fi
	if [[ " $* " == *" dma "* ]]; then
		wanted+=(dma.iommu dma.direct)
		perf_guest .iommu --iommu -- dma || status=$?
		perf_guest .direct -- dma || status=$?
	fi
	for suite in "${wanted[@]}"; do
		[[ -e $PERF_DIR/$suite ]] || failed+=" $suite"
	done
	[[ $failed == " ${wanted[*]}" ]] || perf_results
	[[ -z $failed ]] || say "these suites failed:$failed"
	exit "$status"
}

# Runs suites in one guest. Of each that worked the figures are in $PERF_DIR/SUITE$SUFFIX
# afterwards, and only of these.
perf_guest() { # SUFFIX OPTION... -- SUITE...
	local suffix=$1 options=()
	for (( ; ; )); do
		shift
		[[ $1 != -- ]] || break
		options+=("$1")
	done
	shift
	say "measuring: $*${suffix:+ (${suffix#.})}"
	# shellcheck disable=SC2016 # for the guest's shell
	"$CLONE/lab" run --kernel "${OPT[kernel]:-$(installed_series | head -n 1)}" \
		--mem "${OPT[mem]:-$PERF_MEM}" --smp "${OPT[smp]}" --vram "${OPT[vram]}" \
		--p2p "${OPT[p2p]}" ${OPT[times]:+--times} ${OPT[icount]:+--icount} --timeout "${OPT[timeout]:-3600}" "${options[@]}" -- \
		bash -euc 'dir=$1 suffix=$2 quick=$3; shift 3
			modprobe pfn_edu dma_bits=64 test_knobs=1
			pfn-perf-report machine "$dir/machine"
			status=0
			for suite; do
				echo; echo "== $suite"
				if pfn-perf-$suite $quick --json "$dir/.unfinished"; then
					mv "$dir/.unfinished" "$dir/$suite$suffix"
				else
					status=1
				fi
			done
			exit $status' - "$PERF_DIR" "$suffix" "${OPT[quick]:+--quick}" "$@" </dev/null
}

# One run of all that has been measured, to where it was asked for.
perf_results() {
	local run=$PERF_DIR/run.json version
	version=$(git -C "$CLONE" describe --always --dirty 2>/dev/null) || version=unknown
	mv "$PERF_DIR/machine" "$PERF_DIR/.machine"
	perf_report merge --output "$run" --machine "$PERF_DIR/.machine" \
		--date "$(date -u +%FT%TZ)" --version "$version" \
		--clock "${OPT[icount]:+instructions (QEMU -icount, 1 ns each)}" "$PERF_DIR"/*
	if [[ -n ${OPT[figures]} ]]; then
		mkdir "$PERF_DIR/figures"
		perf_report figures --format "${OPT[format]:-svg}" "$run" "$PERF_DIR/figures"
		cp -R -- "$PERF_DIR/figures/." "${OPT[figures]}"
	fi
	if [[ -n ${OPT[html]} ]]; then
		perf_report html "$run" "$PERF_DIR/page.html"
		cp "$PERF_DIR/page.html" "${OPT[html]}"
		say "the report is in ${OPT[html]}"
	fi
	[[ -z ${OPT[json]} ]] || cp "$run" "${OPT[json]}"
}
