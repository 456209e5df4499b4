#!/bin/bash
# SPDX-License-Identifier: GPL-2.0 OR BSD-2-Clause
#
# Runs in the guest (tests/lab/run-tests starts it): is it what docs/lab.md
# promises? Prints "ok NAME" or "FAIL NAME" a line.
set -u
# shellcheck source=tests/support/listening.sh
. "$(dirname "$0")/../support/listening.sh"

check() { # NAME CMD...
	local name=$1
	shift
	if "$@" >/dev/null; then echo "ok $name"; else echo "FAIL $name"; fi
}
vram_comes_and_goes() {
	local i
	guest-vram unplug && [[ ! -e /dev/pfn_vram0 ]] && guest-vram plug || return
	for ((i = 0; i < 300; i++)); do
		[[ ! -e /dev/pfn_vram0 ]] || return 0
		sleep 0.1
	done
	return 1
}
has() { [[ $1 == *"$2"* ]]; }

# Sends 20 messages from one soft-RoCE device to the other.
pingpong() {
	local server index=0 i
	until has "$(cat /sys/class/infiniband/rxe_gpu/ports/1/gids/$index)" ffff:c000:0201; do
		index=$((index + 1))
	done
	# It gives up when there is no answer for half a second, as may be on a busy machine.
	for ((i = 0; i < 5; i++)); do
		ip netns exec gpu ibv_rc_pingpong -d rxe_gpu -g "$index" -n 20 2>/dev/null &
		server=$!
		until listening 18515; do
			kill -0 "$server" 2>/dev/null || return 1
			sleep 0.1
		done
		if ip netns exec peer ibv_rc_pingpong -d rxe_peer -g "$index" -n 20 192.0.2.1 \
			2>/dev/null; then
			wait "$server"
			return
		fi
		kill "$server" 2>/dev/null || true
		wait "$server" || true
	done
	return 1
}

check guest_is_root test "$(id -u)" = 0
check guest_starts_in_the_clone test -x ./lab
check guest_environment test "$UMEM_PFN_GUEST" = 1 -a -d "$UMEM_PFN_BUILD"
check guest_root_is_writable touch /etc/lab-test /usr/lab-test
check guest_has_the_chosen_kernel has "$(uname -r)" "${1:?series}"
check guest_memory has "$(awk '/MemTotal/ { print int($2 / 1048576 + 1) }' /proc/meminfo)" 2
check guest_memlock_unlimited test "$(ulimit -l)" = unlimited
check guest_modules_are_ours has "$(modinfo -n rdma_rxe)" /updates/
check guest_rxe_is_loaded test -d /sys/module/rdma_rxe
check guest_vram_bar has "$(cat /sys/bus/pci/devices/*/vendor | xargs)" 0x1af4
for ns in gpu peer; do
	check "guest_rxe_${ns}_uses_4096" has "$(ibv_devinfo -d "rxe_$ns" 2>&1)" "active_mtu:		4096"
	check "guest_${ns}_link_mtu" has "$(ip -n "$ns" link show "veth_$ns")" "mtu 4200"
done
check guest_rdma_between_namespaces pingpong
check guest_vram_can_be_unplugged vram_comes_and_goes
check guest_qmp_tells_errors eval '! guest-qmp nonsense'
echo end
