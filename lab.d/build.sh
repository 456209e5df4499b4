# SPDX-License-Identifier: GPL-2.0 OR BSD-2-Clause
# shellcheck shell=bash
#
# Builds modules and user space inside the Debian root, incrementally, into
# $BUILD, which is /lab/build in there and in the guest:
#
#   RELEASE/modules/   what Kbuild made for that kernel
#   RELEASE/modroot/   what becomes /lib/modules/RELEASE in the guest
#   user/              CMake's build of libraries, tests, examples

BUILD_LOG=$BUILD/build.log
readonly BUILD_MIB=1500

build_all() { # for the chosen kernel
	with_lock "$BUILD.lock" "building for this clone" build_locked
}

build_locked() {
	mkdir -p "$BUILD"
	discard_untrusted_build
	[[ -d $BUILD/user ]] || need_space "$BUILD_MIB" "the build"
	: >"$BUILD_LOG"
	echo "$ROOT_ID" >"$BUILD/root"
	echo running >"$BUILD/unfinished"
	build_modules "$KERNEL"
	stage_modules "$KERNEL"
	build_user_space
	rm "$BUILD/unfinished"
}

# A build that was killed may hold half-written files that look new; one made in
# another root was made with other tools. (One that failed, or was stopped with
# Ctrl-C, is fine: make and ninja remove what they could not finish.)
discard_untrusted_build() {
	local reason=
	if [[ -e $BUILD/unfinished && $(cat "$BUILD/unfinished") != failed ]]; then
		reason="the last build was killed"
	elif [[ -e $BUILD/root && $(cat "$BUILD/root") != "$ROOT_ID" ]]; then
		reason="the Debian root has changed"
	fi
	[[ -n $reason ]] || return 0
	say "$reason; building from scratch"
	find "$BUILD" -mindepth 1 -maxdepth 1 -exec rm -rf --one-file-system {} +
}

# Most builds have nothing to do: say something only if it takes a moment.
build_step() {
	STEP_QUIET=4 STEP_ON_FAILURE=build_has_failed step "$BUILD_LOG" "$@"
}
build_has_failed() { echo failed >"$BUILD/unfinished"; }

build_modules() { # RELEASE
	local release=$1
	build_step "building modules for $release" in_root \
		make -C "$CLONE/kernel/ib_umem_pfn" -j"$(nproc)" --no-print-directory \
		KVER="$release" OUT="/lab/build/$release/modules" \
		LINUX_SOURCE="$(linux_source "$release")"
}

# The guest's /lib/modules/RELEASE: the stock modules plus updates/, which
# depmod prefers. Making the index takes seconds, so it is made anew only when
# a module appears, goes, or changes what it imports, exports or matches.
stage_modules() { # RELEASE
	local release=$1
	local dir=$BUILD/$release modroot=$BUILD/$release/modroot modules
	mapfile -t modules < <(find "$dir/modules" -name '*.ko' | sort)
	((${#modules[@]})) || die "the module build made no modules; see $BUILD_LOG"
	mkdir -p "$modroot/updates" "$modroot/kernel"
	local module copied=
	for module in "$modroot"/updates/*.ko; do
		[[ -e $module ]] || continue
		printf '%s\n' "${modules[@]}" | grep -q "/${module##*/}\$" || rm "$module"
	done
	for module in "${modules[@]}"; do
		if ! cmp -s "$module" "$modroot/updates/${module##*/}"; then
			# Never in place: a guest may be using the old file.
			cp "$module" "$modroot/updates/.new"
			mv "$modroot/updates/.new" "$modroot/updates/${module##*/}"
			copied=1
		fi
	done
	if [[ -n $copied || ! -e $modroot/index-of ]]; then
		build_step "indexing modules for $release" in_root \
			"$LAB_D/index-modules" "$release" "/lab/build/$release/modroot" \
			"$(stock_modules "$release")"
	fi
}

build_user_space() {
	local tarballs perftest options
	# The distribution's, and perhaps a newer one.
	mapfile -t tarballs < <(cd "$ROOT" && printf '/%s\n' usr/src/umem-pfn/rdma-core_*.orig.tar.*z | sort -V)
	perftest=$(cd "$ROOT" && printf '/%s\n' usr/src/umem-pfn/perftest_*.orig.tar.*z | tail -n 1)
	options=("-DUMEM_PFN_RDMA_CORE_TARBALL=${tarballs[0]}"
		"-DUMEM_PFN_NEWEST_RDMA_CORE_TARBALL=${tarballs[1]:-}"
		"-DUMEM_PFN_PERFTEST_SOURCE=$perftest")
	# Also when it was configured by a lab that knew fewer options.
	if [[ ! -e $BUILD/user/build.ninja || $(cat "$BUILD/options" 2>/dev/null) != "${options[*]}" ]]; then
		build_step "configuring user space" in_root \
			env CC=gcc-14 CXX=g++-14 cmake -S "$CLONE" -B /lab/build/user -G Ninja "${options[@]}"
		echo "${options[*]}" >"$BUILD/options"
	fi
	build_step "building user space" in_root ninja -C /lab/build/user
}
