# SPDX-License-Identifier: GPL-2.0 OR BSD-2-Clause
# shellcheck shell=bash
#
# For test scripts in the guest.

# Does somebody listen on that TCP port in the gpu's network namespace?
listening() { # PORT
	ip netns exec gpu cat /proc/net/tcp |
		grep -q ":$(printf %04X "$1") 00000000:0000 0A"
}
