# SPDX-License-Identifier: GPL-2.0 OR BSD-2-Clause
# shellcheck shell=bash
#
# Shared by all of the lab: messages, where things are, long steps, rights.

# Exit statuses of the lab itself (docs/lab.md).
readonly ST_USAGE=2 ST_SPLAT=120 ST_DIED=121 ST_TIMEOUT=124 ST_LAB=125

LAB_D=$CLONE/lab.d
CACHE=${XDG_CACHE_HOME:-$HOME/.cache}/umem-pfn
CLONE_ID=$(printf %s "$CLONE" | sha256sum | cut -c1-12)
BUILD=$CACHE/builds/$CLONE_ID # what was built for this clone
LOGS=$CACHE/logs/$CLONE_ID    # one directory per guest

say() { printf 'lab: %s\n' "$*" >&2; }
die() {
	say "$*"
	exit "$ST_LAB"
}
usage_error() {
	say "$*"
	exit "$ST_USAGE"
}

# What holds where the command line says nothing: all options there are.
default_options() {
	declare -gA OPT=([mem]='' [smp]=2 [vram]='' [timeout]='' [kernel]='' [iommu]='' [p2p]=host
		[json]='' [html]='' [figures]='' [format]='' [icount]='' [compare]='' [times]='' [quick]='' [long]=''
		[jobs]=$(($(nproc) < 2 ? 1 : 2)))
}

is_number() { # VALUE MIN MAX
	[[ $1 =~ ^(0|[1-9][0-9]{0,8})$ ]] && (($1 >= $2 && $1 <= $3))
}

kernel_series() { sed 's/#.*//; /^[[:space:]]*$/d' "$LAB_D/kernels"; }

# step LOG MESSAGE CMD...: runs CMD with its output in LOG, shows MESSAGE and
# the time it took (nothing at all if it took less than STEP_QUIET seconds). The
# command STEP_PERCENT, if any, prints how far it is: shown all the time on a
# terminal, else a line for every tenth. On failure calls STEP_ON_FAILURE, explains as well
# as it can and exits.
step() {
	local log=$1 message=$2 start=$SECONDS status=0 shown=''
	local quiet=${STEP_QUIET:-0} on_failure=${STEP_ON_FAILURE:-:} percent=${STEP_PERCENT:-} tick far told=0
	shift 2
	mkdir -p "$(dirname "$log")"
	set -m # a process group of its own, to be stopped as one
	"$@" >>"$log" 2>&1 </dev/null &
	set +m
	STEP_PID=$! STEP_STOPPED=$on_failure
	for ((tick = 0; ; tick++)); do
		if [[ -z $shown ]] && ((SECONDS - start >= quiet)); then
			printf 'lab: %s ...' "$message" >&2
			shown=1
		elif [[ -n $shown && -t 2 ]] && ((tick % 10 == 0)); then
			printf '\rlab: %s ... %s%d s' "$message" "${percent:+$("$percent") %, }" $((SECONDS - start)) >&2
		elif [[ -n $shown && -n $percent ]] && ((tick % 50 == 49)); then
			far=$("$percent")
			if ((far / 10 > told / 10)); then
				((told)) || printf '\n' >&2
				printf 'lab:   %d %%, %d s\n' $((told = far / 10 * 10)) $((SECONDS - start)) >&2
			fi
		fi
		kill -0 "$STEP_PID" 2>/dev/null || break
		sleep 0.1
	done
	wait "$STEP_PID" || status=$?
	STEP_PID=
	if ((status == 0)); then
		[[ -n $shown ]] || return 0
		if [[ -t 2 ]]; then printf '\r\033[K' >&2; fi
		if [[ -t 2 ]] || ((told)); then printf 'lab: %s ...' "$message" >&2; fi
		printf ' %d s\n' $((SECONDS - start)) >&2
		return 0
	fi
	"$on_failure"
	[[ -n $shown ]] || printf 'lab: %s ...' "$message" >&2
	printf ' failed\n' >&2
	explain_failure "$log"
	exit "$ST_LAB"
}
STEP_PID='' STEP_STOPPED=:

# Stops a running step: kindly, so that make and ninja clean up, then not so.
stop_step() {
	local pid=$STEP_PID
	[[ -n $pid ]] || return 0
	STEP_PID=
	printf '\n' >&2
	kill -TERM -- "-$pid" 2>/dev/null || true
	for _ in {1..20}; do
		if ! kill -0 -- "-$pid" 2>/dev/null; then
			"$STEP_STOPPED"
			return
		fi
		sleep 0.25
	done
	kill -KILL -- "-$pid" 2>/dev/null || true
}

# Whatever happens to the lab, what it started and made goes away with it.
ON_EXIT=()
on_exit() {
	local status=$? i
	trap '' INT TERM HUP
	stop_step
	for ((i = ${#ON_EXIT[@]} - 1; i >= 0; i--)); do
		"${ON_EXIT[i]}" || true
	done
	exit "$status"
}
trap on_exit EXIT
trap 'exit 129' HUP
trap 'exit 130' INT
trap 'exit 143' TERM

explain_failure() { # LOG
	local log=$1
	if grep -q 'No space left on device' "$log" || (($(free_mib) < 100)); then
		say "the disk is full: $(free_mib) MiB left for $CACHE"
	elif grep -qiE 'could not resolve|temporary failure resolving|could not connect|unable to connect|network is unreachable|connection (timed out|refused|failed)' "$log"; then
		say "no network: the Debian mirror could not be reached"
	else
		tail -n 30 "$log" | sed 's/^/    /' >&2
	fi
	say "the full log is $log"
}

free_mib() {
	local dir=$CACHE
	until [[ -d $dir ]]; do dir=$(dirname "$dir"); done
	df -Pm "$dir" | awk 'NR == 2 { print $4 }'
}
need_space() { # MIB WHAT
	(($(free_mib) >= $1)) ||
		die "the disk is too full: $2 needs $1 MiB, $CACHE has $(free_mib) MiB left"
}

# with_lock FILE WHAT CMD...: only one lab at a time does this.
with_lock() {
	local file=$1 what=$2 fd
	shift 2
	mkdir -p "$(dirname "$file")"
	exec {fd}>"$file"
	if ! flock -n "$fd"; then
		say "another lab is $what; waiting for it"
		flock "$fd"
	fi
	"$@"
	flock -u "$fd"
	exec {fd}>&-
}

# Mounting and chroot need root, or a user namespace in which we are root.
# Starts the lab again inside one if need be.
become_root_of_some_kind() {
	local why
	mkdir -p "$CACHE" 2>/dev/null || die "cannot write to $CACHE"
	if ((EUID == 0)); then
		unshare --mount --pid --fork true 2>/dev/null ||
			die "no right to make a mount namespace here (a container without CAP_SYS_ADMIN?)"
		return
	fi
	host_packages # newuidmap among them
	why=$(unshare --user --map-root-user --map-auto --mount --pid --fork true 2>&1) ||
		die "not root, and this host does not let users make user namespaces ($why); run it as root"
	exec unshare --user --map-root-user --map-auto -- "$CLONE/lab" "$@"
}
