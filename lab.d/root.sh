# SPDX-License-Identifier: GPL-2.0 OR BSD-2-Clause
# shellcheck shell=bash
#
# The Debian root: a trixie system with the kernels, QEMU and every build tool.
# All clones share it; once made it is never written to again.
#
# It lives in $CACHE/root-ID, where ID is a hash of what it is made from
# (ROOT_FORMAT, packages, kernel series), so a changed list makes a new one. It
# is made under another name and renamed when whole. $ROOT/lab/stamp, written
# last, lists its key files with their sizes: a root without a stamp, or whose
# files don't match it, is made again.

# Count up when a change below makes a different root out of the same lists.
readonly ROOT_FORMAT=3
ROOT_ID=$({
	echo "$ROOT_FORMAT"
	cat "$LAB_D/packages" "$LAB_D/kernels"
} | sha256sum | cut -c1-12)
ROOT=$CACHE/root-$ROOT_ID
ROOT_LOG=$CACHE/logs/root.log
readonly ROOT_MIB=4000 ROOT_UNUSED_DAYS=30

# Sets KERNEL (its release) for the chosen series and makes what is missing.
prepare() {
	host_packages
	if ! root_is_whole "$ROOT"; then
		with_lock "$CACHE/lock" "preparing the Debian root" make_root_unless_whole
	fi
	touch "$ROOT/lab/stamp"
	locate_debug_kernel
	choose_kernel "${OPT[kernel]}"
	if is_debug "$KERNEL"; then prepare_debug_kernel; fi
}

# What the host must have. As root the lab installs it; otherwise it says what to do.
host_packages() {
	local missing=()
	command -v mmdebstrap >/dev/null || root_is_whole "$ROOT" || missing+=(mmdebstrap)
	command -v unshare >/dev/null || missing+=(util-linux)
	((EUID == 0)) || command -v newuidmap >/dev/null || missing+=(uidmap)
	((${#missing[@]})) || return 0
	command -v apt-get >/dev/null ||
		die "this host lacks ${missing[*]} and has no apt-get to install it with"
	((EUID == 0)) ||
		die "this host lacks a package; as root: apt-get install ${missing[*]}"
	step "$CACHE/logs/host.log" "installing ${missing[*]} on this host" \
		install_host_packages "${missing[@]}"
}
install_host_packages() {
	export DEBIAN_FRONTEND=noninteractive
	apt-get update && apt-get install -y --no-install-recommends "$@"
}

stamp_lines() { # ROOT: "size path" of the files without which nothing works
	(cd "$1" && find boot/vmlinuz-* usr/bin/qemu-system-x86_64 usr/libexec/virtiofsd \
		usr/bin/cmake usr/bin/*-g++-14 usr/bin/ibv_devinfo usr/src/*.tar.xz \
		usr/src/umem-pfn/*.tar.* lib/modules/*/modules.dep.bin \
		-printf '%s %p\n' 2>/dev/null | sort)
}
root_is_whole() { # ROOT
	[[ -f $1/lab/stamp ]] && [[ $(stamp_lines "$1") == "$(cat "$1/lab/stamp")" ]]
}

make_root_unless_whole() {
	local new=$CACHE/.root-new
	if root_is_whole "$ROOT"; then return; fi # another lab made it meanwhile
	if [[ -e $ROOT ]]; then
		say "the cached Debian root is damaged; making it again"
		remove_tree "$ROOT"
	fi
	remove_tree "$new" # left by a lab that was stopped half-way
	remove_unused_roots
	need_space "$ROOT_MIB" "the Debian root"
	say "first use: making a Debian root in $CACHE (about 3 minutes, 3 GB)"
	mkdir -p "$CACHE/logs"
	: >"$ROOT_LOG"
	step "$ROOT_LOG" "1/4 Debian trixie with build tools" bootstrap "$new"
	step "$ROOT_LOG" "2/4 looking for kernels" find_kernels "$new"
	step "$ROOT_LOG" "3/4 kernels, headers, QEMU: $(cut -d' ' -f2 "$new/lab/kernels" | xargs)" \
		install_kernels "$new"
	step "$ROOT_LOG" "4/4 sources of the kernels, rdma-core and perftest" fetch_sources "$new"
	if [[ -s $new/lab/warning ]]; then say "$(cat "$new/lab/warning")"; fi
	stamp_lines "$new" >"$new/lab/stamp.new"
	sync -f "$new"
	mv "$new/lab/stamp.new" "$new/lab/stamp"
	mv -T "$new" "$ROOT"
}

package_list() { # [backports]: names in lab.d/packages
	sed 's/#.*//; s/[[:space:]]*$//; /^$/d' "$LAB_D/packages" |
		if [[ ${1:-} == backports ]]; then sed -n 's/^backports //p'; else grep -v '^backports '; fi
}

bootstrap() { # ROOT
	local root=$1
	debootstrap_trixie "$root" "$(package_list | paste -sd,)" \
		--dpkgopt='path-exclude=/usr/share/man/*' \
		--dpkgopt='path-exclude=/usr/share/locale/*' \
		--dpkgopt='path-exclude=/usr/share/doc/*'
	# Mount points and data of the lab.
	mkdir -p "$root"/lab/{run,build,debug} "$root/usr/src/umem-pfn"
	touch "$root/lab/init"
}

# A minimal trixie with some packages, and backports and sources to install from.
debootstrap_trixie() { # ROOT PACKAGE,... MMDEBSTRAP_OPTION...
	local root=$1 packages=$2 proxy
	shift 2
	proxy=$(apt-config dump Acquire::http::Proxy 2>/dev/null | cut -d'"' -f2 || true)
	unshare --mount --propagation private --pid --fork --kill-child --mount-proc \
		mmdebstrap --mode=root --variant=minbase --include="$packages" \
		${proxy:+--aptopt="Acquire::http::Proxy \"$proxy\""} \
		--aptopt='APT::Install-Recommends "false"' \
		--aptopt='Acquire::Retries "3"' \
		--dpkgopt=force-unsafe-io \
		"$@" trixie "$root" ${UMEM_PFN_MIRROR:+"$UMEM_PFN_MIRROR"}
	# Backports and sources come from the mirror the root itself came from.
	sed -n 's/^deb \(.*\) trixie main.*/deb \1 trixie-backports main\ndeb-src \1 trixie main/p' \
		"$root/etc/apt/sources.list" | head -n 2 >"$root/etc/apt/sources.list.d/umem-pfn.list"
	grep -q backports "$root/etc/apt/sources.list.d/umem-pfn.list"
	in_root_writable "$root" apt-get update
}

# Writes /lab/kernels: "SERIES RELEASE" for each series of lab.d/kernels that
# the mirror has, else the newest kernel there is, with a warning.
find_kernels() { # ROOT
	local root=$1 series all
	all=$(in_root_writable "$root" apt-cache pkgnames linux-headers- |
		sed -nE 's/^linux-headers-([0-9]+\.[0-9]+.*[^a-z]amd64)$/\1/p' |
		grep -vE -- '-(rt|cloud)-' | sort -V)
	echo "kernels of the mirror:" "$all"
	for series in $(kernel_series); do
		grep -E "^${series/./\\.}[.+~-]" <<<"$all" | tail -n 1 | sed "s/^/$series /" || true
	done >"$root/lab/kernels"
	if [[ ! -s $root/lab/kernels ]]; then
		all=$(tail -n 1 <<<"$all")
		[[ ${all%%.*} -ge 7 ]] || {
			echo "the mirror has no kernel of series 7 or later"
			return 1
		}
		series=$(grep -oE '^[0-9]+\.[0-9]+' <<<"$all")
		echo "$series $all" >"$root/lab/kernels"
		echo "WARNING: the mirror has none of the supported kernels ($(kernel_series | xargs)); trying $all" \
			>"$root/lab/warning"
	fi
	cat "$root/lab/kernels"
}

install_kernels() { # ROOT
	local root=$1 series release packages
	mapfile -t packages < <(package_list backports)
	while read -r series release; do
		# shellcheck disable=SC2207 # names
		packages+=("linux-headers-$release" "linux-source-$series" $(kernel_packages "$root" "$release"))
	done <"$root/lab/kernels"
	install_backports "$root" "${packages[@]}"
	while read -r series release; do
		finish_kernel "$root" "$release"
	done <"$root/lab/kernels"
	# Builders of modules look for the debug kernel here, too.
	read -r series release <"$root/lab/kernels"
	release=$(debug_release "$release")
	mkdir -p "$root/lib/modules/$release"
	ln -s /lab/debug/build "$root/lib/modules/$release/build"
}

# The image comes as linux-binary-* and linux-modules-*: the linux-image-*
# package would only add an initramfs generator, which nothing here needs.
kernel_packages() { # ROOT RELEASE
	if in_root_writable "$1" apt-cache show "linux-binary-$2" >/dev/null 2>&1; then
		echo "linux-binary-$2 linux-modules-$2"
	else
		echo "linux-image-$2"
	fi
}
finish_kernel() { # ROOT RELEASE
	[[ -f $1/boot/vmlinuz-$2 ]] || ln "$1/lib/modules/$2/vmlinuz" "$1/boot/vmlinuz-$2"
	[[ -f $1/lib/modules/$2/modules.dep.bin ]] || in_root_writable "$1" depmod "$2"
}
install_backports() { # ROOT PACKAGE...
	local root=$1
	shift
	in_root_writable "$root" env DEBIAN_FRONTEND=noninteractive INITRD=No \
		apt-get install -y --no-install-recommends -t trixie-backports "$@"
}

fetch_sources() { # ROOT
	# As root, not as _apt, which may not write there.
	in_root_writable "$1" sh -e -c '
		cd /usr/src/umem-pfn
		fetch() { apt-get -o APT::Sandbox::User=root source --tar-only -d "$@"; }
		fetch rdma-core perftest
		# The rdma-core that the next release will have, for the tests of librxe;
		# a mirror may lack it, and may be of some day long past.
		list=/etc/apt/sources.list.d/newest.list
		sed -n "s/^\(deb-src .*\) trixie main/\1 unstable main/p" \
			/etc/apt/sources.list.d/umem-pfn.list >$list
		! apt-get -o Acquire::Check-Valid-Until=false update || fetch rdma-core || true
		rm $list
		ls -l
		apt-get clean
		rm -rf /var/lib/apt/lists/*'
}

choose_kernel() { # [SERIES]: sets KERNEL and SERIES
	local wanted=$1
	if [[ $wanted == debug ]]; then
		KERNEL=$DEBUG_RELEASE
		SERIES=debug
	elif [[ -n $wanted ]]; then
		KERNEL=$(awk -v s="$wanted" '$1 == s { print $2 }' "$ROOT/lab/kernels")
		SERIES=$wanted
		[[ -n $KERNEL ]] || die "the mirror had no kernel of series $wanted when the root was made (./lab clean --all makes a new one)"
	else
		read -r SERIES KERNEL <"$ROOT/lab/kernels"
	fi
	if [[ -s $ROOT/lab/warning ]]; then say "$(cat "$ROOT/lab/warning")"; fi
}
installed_series() { cut -d' ' -f1 "$ROOT/lab/kernels"; }

# Of any kernel, by release; paths are those inside the root.
kernel_image() {
	if is_debug "$1"; then echo /lab/debug/bzImage; else echo "/boot/vmlinuz-$1"; fi
}
stock_modules() {
	if is_debug "$1"; then echo /lab/debug/modules; else echo "/lib/modules/$1"; fi
}
linux_source() {
	local series=$DEBUG_SERIES
	is_debug "$1" || series=$(awk -v r="$1" '$2 == r { print $1 }' "$ROOT/lab/kernels")
	echo "/usr/src/linux-source-$series.tar.xz"
}

remove_tree() { # DIR; never crosses into something mounted there
	[[ ! -e $1 ]] || rm -rf --one-file-system -- "$1"
}
remove_unused_roots() {
	local old
	for old in "$CACHE"/{root,pristine}-*; do
		[[ -d $old ]] || continue
		if [[ ! -f $old/lab/stamp || -n $(find "$old/lab/stamp" -mtime "+$ROOT_UNUSED_DAYS") ]]; then
			remove_tree "$old"
		fi
	done
}

# in_root_writable ROOT CMD...: CMD inside ROOT, only while it is being made.
# in_root CMD...: CMD inside the finished root, which is then read-only, with
# the clone at its own path, this clone's build directory at /lab/build and the
# debug kernel, if there is one, at /lab/debug.
# Everything is mounted in a namespace of its own and is gone afterwards.
in_root_writable() {
	local root=$1
	shift
	unshare --mount --propagation private --pid --fork --kill-child bash -euc '
		. "$0"; root=$1; shift
		mount --bind "$root" "$root"
		mount_system "$root"
		enter "$root" "$@"' "$LAB_D/mounts.sh" "$root" "$@"
}
in_root() {
	local debug=${IN_ROOT_DEBUG:-}
	mkdir -p "$BUILD"
	if [[ -z $debug && -f ${DEBUG:-}/stamp ]]; then debug=$DEBUG; fi
	unshare --mount --propagation private --pid --fork --kill-child bash -euc '
		. "$0"; root=$1 clone=$2 build=$3 debug=$4; shift 4
		[[ $clone == /tmp/* || $clone == /run/* ]] || mkdir -p "$root$clone"
		mount_read_only "$root" "$root"
		mount --bind "$build" "$root/lab/build"
		[[ -z $debug ]] || mount --bind "$debug" "$root/lab/debug"
		mount_system "$root"
		mkdir -p "$root$clone"
		mount --bind "$clone" "$root$clone"
		enter "$root" "$@"' "$LAB_D/mounts.sh" "$ROOT" "$CLONE" "$BUILD" "$debug" "$@"
}

cmd_clean() {
	if [[ ${1:-} == --all ]]; then
		say "removing $CACHE"
		with_lock "$CACHE/lock" "preparing the Debian root" \
			with_lock "$CACHE/debug.lock" "building the debug kernel" remove_tree "$CACHE"
	else
		say "removing $BUILD"
		with_lock "$BUILD.lock" "building for this clone" remove_tree "$BUILD"
	fi
}
