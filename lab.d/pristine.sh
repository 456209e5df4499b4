# SPDX-License-Identifier: GPL-2.0 OR BSD-2-Clause
# shellcheck shell=bash
#
# A pristine host: a minimal trixie with systemd and the stock kernel, and nothing of
# the lab or of us, to install our packages in (tests/package/run).
#
# It lives in $CACHE/pristine-ID, where ID is a hash of what it is made from, with the
# packages that ours depend on in apt's archive, so that the test needs no network
# another time. Like the lab's root it is made under another name and renamed when
# whole. Nothing writes to it afterwards: hosts are copies of it.

# Count up when a change below makes another one.
readonly PRISTINE_FORMAT=1
PRISTINE=$CACHE/pristine-$({
	echo "$PRISTINE_FORMAT"
	cat "$LAB_D/kernels"
} | sha256sum | cut -c1-12)
PRISTINE_LOG=$CACHE/logs/pristine.log
readonly PRISTINE_MIB=2300 # with a copy in which our packages are installed

prepare_pristine() {
	if ! [[ -f $PRISTINE/lab/stamp ]]; then
		with_lock "$CACHE/pristine.lock" "preparing the pristine host" make_pristine_unless_whole
	fi
	touch "$PRISTINE/lab/stamp"
}

make_pristine_unless_whole() {
	local new=$CACHE/.pristine-new
	if [[ -f $PRISTINE/lab/stamp ]]; then return; fi # another lab made it meanwhile
	remove_tree "$PRISTINE"
	remove_tree "$new"
	need_space "$PRISTINE_MIB" "the pristine host"
	mkdir -p "$CACHE/logs"
	: >"$PRISTINE_LOG"
	step "$PRISTINE_LOG" "minimal Debian trixie" bootstrap_pristine "$new"
	step "$PRISTINE_LOG" "its kernel" install_pristine_kernel "$new"
	step "$PRISTINE_LOG" "packages that ours depend on" download_for_pristine "$new"
	sync -f "$new"
	touch "$new/lab/stamp"
	mv -T "$new" "$PRISTINE"
}

# passwd is for "useradd", iproute2 for "rdma".
bootstrap_pristine() { # ROOT
	debootstrap_trixie "$1" systemd-sysv,udev,kmod,iproute2,passwd
	mkdir "$1/lab"
}

install_pristine_kernel() { # ROOT
	local root=$1 series release
	find_kernels "$root"
	read -r series release <"$root/lab/kernels"
	echo "series $series"
	# shellcheck disable=SC2046 # several words
	install_backports "$root" $(kernel_packages "$root" "$release")
	finish_kernel "$root" "$release"
	in_root_writable "$root" apt-get clean
}

# What tests/package/run installs; apt resolves what these depend on.
download_for_pristine() { # ROOT
	local root=$1 series release
	read -r series release <"$root/lab/kernels"
	in_root_writable "$root" apt-get -o APT::Sandbox::User=root install -y --download-only \
		-t trixie-backports "linux-headers-$release" "linux-source-$series"
	in_root_writable "$root" apt-get -o APT::Sandbox::User=root install -y --download-only \
		dkms build-essential pkgconf ibverbs-providers ibverbs-utils libibverbs-dev librdmacm1t64
}

# A host of one's own, to be removed by whoever asked for it.
new_pristine_host() { # DIR
	cp -a --reflink=auto "$PRISTINE" "$1"
	touch "$1/lab/init" # where pristine-init is mounted
}

# CMD as root on such a host that has not been booted, as those do who make images.
in_pristine() { # HOST CMD...
	local host=$1
	shift
	in_root_writable "$host" env DEBIAN_FRONTEND=noninteractive "$@"
}
