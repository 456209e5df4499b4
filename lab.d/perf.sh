# SPDX-License-Identifier: GPL-2.0 OR BSD-2-Clause
# shellcheck shell=bash
#
# ./lab perf dma: what it costs to let a device see a dma-buf, with an IOMMU and
# without, each in a guest of its own. The figures come from pfn-perf-dma (perf/).

readonly PERF_MEM=4096 # 1 GiB to measure, and its twin's metadata

cmd_perf() { # dma
	build_all
	# The one place that guest and host share, and that is ours.
	PERF_DIR=$(mktemp -d "$CLONE/.perf.XXXXXX")
	ON_EXIT+=(remove_perf_dir)
	perf_dma "with an IOMMU" "$PERF_DIR/iommu" --iommu
	perf_dma "without an IOMMU" "$PERF_DIR/direct"
	[[ -z ${OPT[json]} ]] || printf '{"iommu": %s, "direct": %s}\n' \
		"$(cat "$PERF_DIR/iommu")" "$(cat "$PERF_DIR/direct")" >"${OPT[json]}"
}
remove_perf_dir() { rm -rf -- "$PERF_DIR"; }

perf_dma() { # TITLE JSON OPTION...
	local title=$1 json=$2
	shift 2
	printf '\n%s\n' "$title"
	"$CLONE/lab" run --kernel "${OPT[kernel]:-$(installed_series | head -n 1)}" \
		--mem "${OPT[mem]:-$PERF_MEM}" --smp "${OPT[smp]}" --vram "${OPT[vram]}" \
		--p2p "${OPT[p2p]}" ${OPT[times]:+--times} ${OPT[timeout]:+--timeout "${OPT[timeout]}"} "$@" -- \
		bash -euc 'modprobe pfn_edu dma_bits=64 test_knobs=1; pfn-perf-dma --json "$1"' - \
		"$json" </dev/null
}
