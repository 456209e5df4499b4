# SPDX-License-Identifier: GPL-2.0 OR BSD-2-Clause
# shellcheck shell=bash
#
# ./lab check: what a reviewer would say about style, said by programs.

cmd_check() {
	mkdir -p "$BUILD"
	with_lock "$BUILD/lock" "building for this clone" check_locked
	say "no complaints"
}

check_locked() {
	local log=$BUILD/check.log
	: >"$log"
	step "$log" "shellcheck" in_root bash -euc '
		cd "$0"
		shellcheck -x lab .ci/run lab.d/{guest-init,pristine-init,index-modules,machine,guest-bin/guest-{qmp,vram,ssh,mpiexec}} \
			tests/package/{run,guest} debian/*.{preinst,postinst,postrm} \
			tests/lab/run-tests tests/lab/guest-checks.sh tests/rules/{check,selftest} \
			tests/pfndv/{abi,installed} tests/ucx/perftest tests/newest/{build,run} \
			tests/tools/completion tools/completions/* \
			tests/mutants/{run,in-guest} \
			provider/librxe/build.sh perf/perftest/build.sh perf/pfn-perf-mpi' "$CLONE"
	step "$log" "clang-format" in_root bash -euc '
		cd "$0"
		find examples perf provider tests tools -name "*.[ch]pp" -print0 |
			xargs -0 clang-format --dry-run -Werror' "$CLONE"
	step "$log" "checkpatch and sparse" in_root \
		make -C "$CLONE/kernel/ib_umem_pfn" -j"$(nproc)" --no-print-directory check \
		KVER="$KERNEL" OUT="/lab/build/$KERNEL/check" \
		LINUX_SOURCE="$(linux_source "$KERNEL")"
	# GCC's precompiled headers are nothing for clang, and hide a missing #include.
	step "$log" "clang-tidy (some minutes)" in_root bash -euc '
		CXX=g++-14 cmake -S "$0" -B /lab/build/check -G Ninja \
			-DCMAKE_DISABLE_PRECOMPILE_HEADERS=ON -DUMEM_PFN_SANITIZERS=OFF
		exec "$@"' "$CLONE" run-clang-tidy -quiet \
		-p /lab/build/check -j "$(nproc)" -warnings-as-errors='*' "^$CLONE/(examples|perf|tests|tools)/"
}
