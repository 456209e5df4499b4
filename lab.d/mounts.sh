# SPDX-License-Identifier: GPL-2.0 OR BSD-2-Clause
# shellcheck shell=bash
#
# Mounting and entering a root. Sourced by a shell in a fresh mount and PID
# namespace (root.sh, guest.sh), so nothing here can leak to the host.

# The kernel's file systems and fresh /run and /tmp, as a chroot needs them.
mount_system() { # ROOT
	local root=$1
	mount -t proc proc "$root/proc" 2>/dev/null || mount --rbind /proc "$root/proc"
	mount --rbind /sys "$root/sys"
	mount --rbind /dev "$root/dev"
	mount -t tmpfs -o mode=755 tmpfs "$root/run"
	mount -t tmpfs -o mode=1777 tmpfs "$root/tmp"
	if [[ -e /etc/resolv.conf && -f $root/etc/resolv.conf ]]; then
		mount --bind "$(readlink -f /etc/resolv.conf)" "$root/etc/resolv.conf"
	fi
}

# Binds ROOT onto AT, read-only.
mount_read_only() { # ROOT AT
	mount --bind "$1" "$2"
	# Some user namespaces don't allow it; then ROOT is protected by care alone.
	mount -o remount,bind,ro "$2" 2>/dev/null || true
}

enter() { # ROOT CMD...
	local root=$1
	shift
	cd "$root"
	exec chroot "$root" /usr/bin/env -i HOME=/root LANG=C.UTF-8 TERM="${TERM:-dumb}" \
		PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin "$@"
}
