# SPDX-License-Identifier: GPL-2.0 OR BSD-2-Clause
# shellcheck shell=bash
#
# The debug kernel (--kernel debug): the distribution's source of the newest
# series, configured by lab.d/debug.config, built once. All clones share it.
#
# It lives in $CACHE/kernel-debug-ID, which is /lab/debug in the Debian root. ID
# is a hash of what it is made from: the fragment, the source, a format number.
#
#   bzImage      boots as the stock kernels do
#   modules/     its own modules, what /lib/modules/RELEASE is of a stock kernel
#   src/ build/  what it takes to build modules for it, as in linux-headers-*
#   stamp        written last: key files with their sizes
#
# It is made in $CACHE/.kernel-debug-new, where a lab that was stopped half-way
# left off the next one goes on (Kbuild notes a file as made when it is whole);
# the little that is needed of that is copied to $CACHE/.kernel-debug-kept and
# renamed when whole.

# Count up when a change below makes something different of the same inputs.
readonly DEBUG_FORMAT=1
DEBUG_LOG=$CACHE/logs/debug-kernel.log
DEBUG_NEW=$CACHE/.kernel-debug-new
DEBUG_KEPT=$CACHE/.kernel-debug-kept
readonly DEBUG_MIB=3500 DEBUG_LINES=2470

is_debug() { [[ $1 == *-debug ]]; } # RELEASE

# Sets DEBUG, where it is or will be, and DEBUG_RELEASE. Needs a whole root.
locate_debug_kernel() {
	local series release source
	read -r series release <"$ROOT/lab/kernels"
	source=$(awk -v p="linux-source-$series" '
		/^Package: / { found = $2 == p }
		/^Version: / && found { print $2 }' "$ROOT/var/lib/dpkg/status")
	DEBUG_SERIES=$series
	DEBUG_RELEASE=$(debug_release "$release")
	DEBUG=$CACHE/kernel-debug-$({
		echo "$DEBUG_FORMAT $release $source"
		cat "$LAB_D/debug.config"
	} | sha256sum | cut -c1-12)
}
debug_release() { echo "${1%%[+~-]*}-debug"; } # RELEASE of the stock kernel

prepare_debug_kernel() {
	if ! debug_kernel_is_whole "$DEBUG"; then
		with_lock "$CACHE/debug.lock" "building the debug kernel" make_debug_kernel_unless_whole
	fi
	touch "$DEBUG/stamp"
}

debug_stamp_lines() { # DIR
	(cd "$1" && find bzImage modules/modules.* build/.config build/Module.symvers \
		build/scripts/mod/modpost build/include/generated/autoconf.h src/Makefile \
		-printf '%s %p\n' 2>/dev/null | sort)
}
debug_kernel_is_whole() { # DIR
	[[ -f $1/stamp ]] && [[ $(debug_stamp_lines "$1") == "$(cat "$1/stamp")" ]]
}

make_debug_kernel_unless_whole() {
	if debug_kernel_is_whole "$DEBUG"; then return; fi # another lab made it meanwhile
	remove_tree "$DEBUG"
	remove_tree "$DEBUG_KEPT"
	if [[ ! -e $DEBUG_NEW/id || $(cat "$DEBUG_NEW/id") != "${DEBUG##*/}" ]]; then
		remove_tree "$DEBUG_NEW"
		need_space "$DEBUG_MIB" "building the debug kernel"
		say "first use of the debug kernel: building it in $CACHE (about 20 minutes)"
		mkdir -p "$CACHE/logs"
		: >"$DEBUG_LOG"
	else
		say "going on with building the debug kernel"
	fi
	mkdir -p "$DEBUG_NEW"
	echo "${DEBUG##*/}" >"$DEBUG_NEW/id"
	debug_step "1/4 unpacking linux-source-$DEBUG_SERIES" unpack_debug_kernel
	debug_step "2/4 configuring $DEBUG_RELEASE" configure_debug_kernel
	STEP_PERCENT=debug_kernel_percent debug_step "3/4 compiling" compile_debug_kernel
	debug_step "4/4 keeping what is needed" keep_debug_kernel
	debug_stamp_lines "$DEBUG_KEPT" >"$DEBUG_KEPT/stamp.new"
	sync -f "$DEBUG_KEPT"
	mv "$DEBUG_KEPT/stamp.new" "$DEBUG_KEPT/stamp"
	mv -T "$DEBUG_KEPT" "$DEBUG"
	remove_tree "$DEBUG_NEW"
	remove_unused_debug_kernels
}
debug_step() { step "$DEBUG_LOG" "$@"; }

# CMD in the root with the directory of the build at /lab/debug. What fails by
# itself is made from scratch the next time.
in_debug_build() { # CMD...
	IN_ROOT_DEBUG=$DEBUG_NEW in_root "$@" || {
		rm -f "$DEBUG_NEW/id"
		return 1
	}
}

unpack_debug_kernel() {
	[[ ! -d $DEBUG_NEW/src ]] || return 0
	in_debug_build bash -euc '
		rm -rf /lab/debug/unpacked
		mkdir /lab/debug/unpacked
		tar -C /lab/debug/unpacked --strip-components=1 -xf "$0"
		cd /lab/debug/unpacked
		# Nothing but GPU drivers that take long to build selects it.
		sed -i "/^config VMAP_PFN\$/{n;s/bool\$/bool \"vmap_pfn()\"/}" mm/Kconfig
		mv /lab/debug/unpacked /lab/debug/src' "/usr/src/linux-source-$DEBUG_SERIES.tar.xz"
}

configure_debug_kernel() {
	local line missing=()
	[[ ! -e $DEBUG_NEW/configured ]] || return 0
	rm -rf "$DEBUG_NEW/build"
	mkdir "$DEBUG_NEW/build"
	# Debian's way to say which compiler, for us and for builders of modules.
	echo "CC = gcc-14" >"$DEBUG_NEW/build/.kernelvariables"
	cp "$LAB_D/debug.config" "$DEBUG_NEW/debug.config"
	in_debug_build make -C /lab/debug/src O=/lab/debug/build HOSTCC=gcc-14 \
		KCONFIG_ALLCONFIG=/lab/debug/debug.config allnoconfig
	in_debug_build make -s --no-print-directory -C /lab/debug/build kernelrelease | grep -x "$DEBUG_RELEASE" || {
		echo "the release is not $DEBUG_RELEASE"
		rm -f "$DEBUG_NEW/id"
		return 1
	}
	# Kconfig drops what it does not know or what depends on something else.
	while read -r line; do
		if [[ $line == CONFIG_*=n ]]; then
			! grep "^${line%n}" "$DEBUG_NEW/build/.config" || missing+=("$line")
		elif [[ $line == CONFIG_* ]]; then
			grep -qxF -- "$line" "$DEBUG_NEW/build/.config" || missing+=("$line")
		fi
	done <"$LAB_D/debug.config"
	if ((${#missing[@]})); then
		echo "lab.d/debug.config wants what Kconfig did not do:"
		printf '%s\n' "${missing[@]}"
		rm -f "$DEBUG_NEW/id"
		return 1
	fi
	touch "$DEBUG_NEW/configured"
}

compile_debug_kernel() {
	in_debug_build make -C /lab/debug/build -j"$(nproc)" HOSTCC=gcc-14 bzImage modules
}
# By the lines that Kbuild prints; their number is known from earlier.
debug_kernel_percent() {
	local lines percent
	lines=$(grep -c '^  [A-Z]' "$DEBUG_LOG" || true)
	percent=$((lines * 100 / DEBUG_LINES))
	echo $((percent < 99 ? percent : 99))
}

# Objects and sources, which nobody needs any more, are by far the most of it.
keep_debug_kernel() {
	mkdir -p "$DEBUG_KEPT"/{build,src}
	in_debug_build make -C /lab/debug/build INSTALL_MOD_PATH=/lab/debug/installed \
		DEPMOD=true modules_install
	mv "$DEBUG_NEW/installed/lib/modules/$DEBUG_RELEASE" "$DEBUG_KEPT/modules"
	rm -f "$DEBUG_KEPT/modules/build"
	cp "$DEBUG_NEW/build/arch/x86/boot/bzImage" "$DEBUG_KEPT/bzImage"
	(
		cd "$DEBUG_NEW/src"
		find Makefile Kbuild arch/x86/Makefile* arch/x86/include include scripts ! -type d
	) | copy_files "$DEBUG_NEW/src" "$DEBUG_KEPT/src"
	(
		cd "$DEBUG_NEW/build"
		find .config .kernelvariables Makefile Module.symvers System.map \
			include arch/x86/include scripts tools/objtool/objtool \
			-type f ! -name '*.o' ! -name '*.cmd'
	) | copy_files "$DEBUG_NEW/build" "$DEBUG_KEPT/build"
	ln -s ../src "$DEBUG_KEPT/build/source"
}
copy_files() { tar -C "$1" -cf - --no-recursion -T - | tar -C "$2" -xf -; } # FROM TO <NAMES

# Another branch may have another fragment, hence two; and any in use.
remove_unused_debug_kernels() {
	local old kept=0
	while read -r _ old; do
		old=${old%/stamp}
		((++kept > 2)) || continue
		if [[ -n $(find "$old/stamp" -mtime +0) ]]; then remove_tree "$old"; fi
	done < <(find "$CACHE"/kernel-debug-*/stamp -printf '%T@ %p\n' | sort -rn)
}
