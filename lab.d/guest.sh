# SPDX-License-Identifier: GPL-2.0 OR BSD-2-Clause
# shellcheck shell=bash
#
# Boots the guest, runs one command in it and judges its kernel log.
#
# QEMU is started directly: the stock kernel has virtiofs and virtio-console
# built in, so it mounts the Debian root without an initramfs and starts
# guest-init as PID 1. CMD's stdin, stdout and stderr are a virtio-serial port
# each, joined to ours through a FIFO and a cat; a fourth port, "control",
# tells phases and the exit status, a fifth lets the guest command its QEMU;
# ttyS0 is the kernel log and nothing else.

readonly KEEP_LOGS=20
# A host (pristine.sh) that the guest boots, and writes to, instead of the lab's root
# with our modules: an init system of its own, KERNEL is the one it has installed.
GUEST_HOST=
# How much longer things may take there than with a stock kernel.
readonly DEBUG_SLOWER=3
# A kernel that has said nothing for so many seconds before it runs guest-init hangs
# (docs/lab.md says more); the longest pause that was seen is 10 s.
readonly BOOT_SILENCE=${UMEM_PFN_BOOT_SILENCE:-60} BOOT_TRIES=3

run_guest() { # CMD...
	boot_and_wait command "$@"
	exit "$STATUS"
}
run_guest_shell() {
	boot_and_wait shell bash --login
	exit "$STATUS"
}

# Sets STATUS, the exit status of it all.
boot_and_wait() { # command|shell CMD...
	local mode=$1 accel timeout init=guest-init
	shift
	timeout=600
	if is_debug "$KERNEL"; then timeout=$((timeout * DEBUG_SLOWER)); fi
	[[ $mode == command && -z ${OPT[long]} ]] || timeout=86400
	timeout=${OPT[timeout]:-$timeout}
	new_run
	write_job "$mode" "$@" >"$RUN/job"
	if [[ -n $GUEST_HOST ]]; then init=pristine-init; fi
	cp "$LAB_D/$init" "$RUN/init"
	cp "$LAB_D/machine" "$RUN/machine"
	[[ -n $GUEST_HOST ]] || with_lock "$BUILD.lock" "building for this clone" snapshot_build
	accel=$(accelerator)
	GUEST_START=$EPOCHREALTIME
	if [[ $mode == shell ]]; then
		run_machine_on_terminal "$accel"
	else
		run_machine "$accel" "$timeout"
	fi
	judge "$timeout"
}

# A directory for this guest: its kernel log and control file, which stay, and
# FIFOs and the like, which go.
new_run() {
	mkdir -p "$LOGS" "$CACHE/tmp"
	RUN=$LOGS/$(date +%Y%m%d-%H%M%S)-$$${RUN_SUFFIX:-}
	mkdir "$RUN"
	GUEST_LOG=$RUN/kernel.log
	touch "$GUEST_LOG" "$RUN/control"
	mkfifo "$RUN/stdin" "$RUN/stdout" "$RUN/stderr"
	remove_stale_snapshots
	SNAPSHOT=$(mktemp -d "$CACHE/tmp/build.XXXXXX")
	exec {SNAPSHOT_FD}>"$SNAPSHOT/lock"
	flock "$SNAPSHOT_FD"
	ON_EXIT+=(end_run)
	remove_old_logs
}
remove_old_logs() {
	local old all=("$LOGS"/2*/)
	for old in "${all[@]:0:${#all[@]} > KEEP_LOGS ? ${#all[@]} - KEEP_LOGS : 0}"; do
		old=${old%/}
		kill -0 "${old##*-}" 2>/dev/null || rm -rf -- "$old" # not that of a lab still at work
	done
}
end_run() {
	stop_machine
	rm -f "$RUN"/{stdin,stdout,stderr,job,init,machine,root.sock*,work.sock*,qmp.sock}
	remove_tree "$SNAPSHOT"
}
# Left by labs that were killed: nobody holds their lock.
remove_stale_snapshots() {
	local old
	for old in "$CACHE"/tmp/build.*; do
		[[ -f $old/lock ]] || continue
		flock -n "$old/lock" rm -rf --one-file-system -- "$old" || true
	done
}

# The guest gets a copy (hard links) of what was built, so that a rebuild while
# it runs does not change programs under its feet.
snapshot_build() {
	mkdir -p "$SNAPSHOT/$KERNEL"
	cp -al "$BUILD/$KERNEL/modroot" "$SNAPSHOT/$KERNEL/"
	cp -al "$BUILD/$KERNEL/modules/linux/tools/testing/selftests" "$SNAPSHOT/$KERNEL/"
	cp -al "$BUILD/user" "$SNAPSHOT/"
	rm -rf "$SNAPSHOT/user/Testing"
}

write_job() { # MODE CMD...: what guest-init needs to know
	local MODE=$1 ARGV CLONE=$CLONE JOB_TERM=${TERM:-dumb} SIZE='' LONG=${OPT[long]} VRAM=${OPT[vram]}
	local IOMMU=${OPT[iommu]} P2P=${OPT[p2p]}
	shift
	ARGV=("$@")
	if [[ $MODE == shell ]]; then SIZE=$(stty size); fi
	declare -p MODE ARGV CLONE JOB_TERM SIZE LONG VRAM IOMMU P2P
}

# Prints kvm if a guest really boots with it, else tcg. A /dev/kvm that opens
# proves nothing: nested KVM may hang.
accelerator() {
	local known=$CACHE/kvm-$KERNEL-$ROOT_ID
	local host
	host="$(uname -rv) $(grep -m1 '^model name' /proc/cpuinfo)"
	if is_debug "$KERNEL"; then host+=" ${DEBUG##*/}"; fi
	if [[ -n ${OPT[icount]} ]] || ! { : <>/dev/kvm; } 2>/dev/null; then
		echo tcg
	elif [[ -f $known && $(head -n 1 "$known") == "$host" ]]; then
		tail -n 1 "$known"
	else
		say "trying KVM (once; 10 s at most)"
		local answer=tcg
		if probe_kvm; then answer=kvm; fi
		printf '%s\n%s\n' "$host" "$answer" >"$known.$$"
		mv "$known.$$" "$known"
		echo "$answer"
	fi
}
# A kernel that gets as far as missing its root file system has booted.
probe_kvm() {
	local console
	console=$(in_root timeout -s KILL 10 qemu-system-x86_64 -machine q35,accel=kvm -cpu host \
		-m 512 -smp 2 -nodefaults -no-user-config -display none -no-reboot -serial stdio \
		-kernel "$(kernel_image "$KERNEL")" -append "console=ttyS0 panic=-1" </dev/null 2>&1) || true
	[[ $console == *"Unable to mount root fs"* ]]
}

# The machine as QEMU options, in the array QEMU.
describe_machine() { # kvm|tcg
	local accel=$1 cpu=host machine=q35 mem=${OPT[mem]} kernel
	kernel=$(kernel_image "$KERNEL")
	if [[ -z $mem ]]; then
		mem=2048
		if is_debug "$KERNEL"; then mem=3072; fi # KASAN's shadow and quarantine, kmemleak's notes
	fi
	# The model that our kernel boots fastest on under TCG; its family also
	# makes the kernel trust the host bridge with peer-to-peer DMA.
	[[ $accel == kvm ]] || cpu=EPYC
	# What it takes for that is AMD's family 17h or later.
	[[ ${OPT[p2p]} != none ]] || cpu+=,family=22
	local append=(
		rootfstype=virtiofs root=root ro init=/lab/init
		# Everything to the log; an oops ends the guest, and at once.
		console=ttyS0 loglevel=8 oops=panic panic=-1
		# The same addresses every time, and less work per indirect call under TCG.
		nokaslr mitigations=off
		# TCG does not see virtiofsd write to the guest's memory, and would go on
		# with what it made of the code there before; it sees a page cleared.
		init_on_alloc=1
		# The kernel panics at boot if no timer tick comes while it counts to some
		# number, which a guest that gets little of a busy host may not live to see.
		no_timer_check
		# Things nobody looks at here.
		audit=0 apparmor=0 raid=noautodetect random.trust_cpu=on
		# A leak shows in a cache of its own.
		slab_nomerge
		# Two loaded host CPUs under TCG can be slow without being stuck.
		watchdog_thresh=30 rcupdate.rcu_cpu_stall_timeout=60 workqueue.watchdog_thresh=60
	)
	[[ -z ${OPT[iommu]} ]] || machine+=,kernel-irqchip=split
	if [[ -n $GUEST_HOST ]]; then
		kernel=/run/share/boot/vmlinuz-$KERNEL
		append+=(rw systemd.wants=lab.service)
	fi
	QEMU=(
		qemu-system-x86_64 -nodefaults -no-user-config -display none -no-reboot
		-machine "$machine,accel=$accel,memory-backend=ram" -cpu "$cpu" -smp "${OPT[smp]}"
		-m "${mem}M" -object "memory-backend-memfd,id=ram,size=${mem}M,share=on"
		-kernel "$kernel"
		-chardev "socket,id=root,path=/run/lab/root.sock"
		-device "vhost-user-fs-pci,queue-size=1024,chardev=root,tag=root"
		-chardev "socket,id=work,path=/run/lab/work.sock"
		-device "vhost-user-fs-pci,queue-size=1024,chardev=work,tag=work"
		-serial file:/run/lab/kernel.log
		-device virtio-serial-pci
		-chardev "file,id=control,path=/run/lab/control"
		-device "virtserialport,nr=1,chardev=control,name=control"
		# QMP for the guest: QEMU is a client of its own monitor.
		-chardev "socket,id=monitor,path=/run/lab/qmp.sock,server=on,wait=off"
		-mon "chardev=monitor,mode=control"
		-chardev "socket,id=qmp,path=/run/lab/qmp.sock"
		-device "virtserialport,nr=5,chardev=qmp,name=qmp"
	)
	describe_p2p
	# The guest's time goes on by a nanosecond for each instruction, and is skipped
	# when there is nothing to do: it does not matter how busy the host is.
	[[ -z ${OPT[icount]} ]] || QEMU+=(-icount "shift=0,sleep=off")
	if [[ -n ${OPT[iommu]} ]]; then
		QEMU+=(-device "intel-iommu,intremap=on")
		append+=(intel_iommu=on iommu.passthrough=0 iommu.strict=1)
	fi
	QEMU+=(-append "${append[*]}")
}

# The edu device and the VRAM, and what is between them. The VRAM is behind a port
# of its own, so that it can be unplugged (guest-qmp). edu's place is the one that
# lab.d/splats-ignored knows; its address mask of 28 bits is for tests to narrow.
describe_p2p() {
	local edu=edu,id=edu,dma_mask=0xffffffffffffffff
	if [[ ${OPT[p2p]} == switch ]]; then
		QEMU+=(
			-device "pcie-root-port,id=switch_port,chassis=1"
			-device "x3130-upstream,id=switch,bus=switch_port"
			-device "xio3130-downstream,id=edu_port,bus=switch,chassis=2,slot=1"
			-device "xio3130-downstream,id=vram_port,bus=switch,chassis=3,slot=2"
			-device "$edu,bus=edu_port"
		)
	else
		QEMU+=(
			-device "$edu,addr=1e.0"
			-device "pcie-root-port,id=vram_port,chassis=1"
		)
	fi
	if ((OPT[vram] > 0)); then
		QEMU+=(
			-object "memory-backend-ram,id=vram,size=${OPT[vram]}M,share=on"
			-device "ivshmem-plain,memdev=vram,bus=vram_port,id=vram_gpu"
		)
	fi
}

# Runs QEMU and virtiofsd in namespaces of their own; when the shell that is
# PID 1 in there goes, all of it goes. In there:
#   /           the Debian root, read-only, with the host's /proc, /sys, /dev
#   /run/lab    this guest's directory
#   /run/share  the root as the guest sees it, with our modules
#   /run/work   clone, build and this guest's directory, for the guest
in_machine_namespace() { # CMD...
	local debug=
	if [[ -n $GUEST_HOST ]]; then
		in_pristine_namespace "$@"
		return
	fi
	if is_debug "$KERNEL"; then debug=$DEBUG; fi
	exec unshare --mount --propagation private --pid --fork --kill-child bash -euc '
		. "$0"; root=$1 clone=$2 run=$3 snapshot=$4 kernel=$5 stock=$6 debug=$7; shift 7
		share=$root/run/share work=$root/run/work
		mount_read_only "$root" "$root"
		mount_system "$root"
		[[ -z $debug ]] || mount --bind "$debug" "$root/lab/debug"
		mkdir "$root/run/lab" "$share"
		mkdir -p "$work"/{clone,build,run}
		mount --bind "$run" "$root/run/lab"
		mount --bind "$root" "$share"
		mount --bind "$run/init" "$share/lab/init"
		mount --bind "$snapshot/$kernel/modroot" "$share/lib/modules/$kernel"
		mount --bind "$root$stock/kernel" "$share/lib/modules/$kernel/kernel"
		mount --bind "$clone" "$work/clone"
		mount --bind "$snapshot" "$work/build"
		mount --bind "$run" "$work/run"
		enter "$root" "$@"' "$LAB_D/mounts.sh" "$ROOT" "$CLONE" "$RUN" "$SNAPSHOT" "$KERNEL" \
		"$(stock_modules "$KERNEL")" "$debug" "$@"
}

# The same with a host in place of the root as the guest sees it.
in_pristine_namespace() { # CMD...
	exec unshare --mount --propagation private --pid --fork --kill-child bash -euc '
		. "$0"; root=$1 clone=$2 run=$3 host=$4; shift 4
		work=$root/run/work
		mount_read_only "$root" "$root"
		mount_system "$root"
		mkdir -p "$root"/run/{lab,share} "$work"/{clone,run}
		mount --bind "$run" "$root/run/lab"
		mount --bind "$host" "$root/run/share"
		mount --bind "$run/init" "$root/run/share/lab/init"
		mount --bind "$clone" "$work/clone"
		mount --bind "$run" "$work/run"
		enter "$root" "$@"' "$LAB_D/mounts.sh" "$ROOT" "$CLONE" "$RUN" "$GUEST_HOST" "$@"
}

# Sets ENDED to what ended first: guest, timeout, reader (of our stdout), or silence
# (of a kernel that hangs while it boots, every time).
run_machine() { # ACCEL TIMEOUT
	local input tries
	describe_machine "$1"
	QEMU+=(
		-chardev "file,id=in,path=/dev/null,input-path=/run/lab/stdin"
		-device "virtserialport,nr=2,chardev=in,name=stdin"
		-chardev "file,id=out,path=/run/lab/stdout"
		-device "virtserialport,nr=3,chardev=out,name=stdout"
		-chardev "file,id=err,path=/run/lab/stderr"
		-device "virtserialport,nr=4,chardev=err,name=stderr"
	)
	# Pipes between QEMU and our own stdio, as QEMU would make it non-blocking
	# for everybody who shares it, or truncate a file it is redirected to. We hold
	# the one to the guest's stdin open until a guest is there to read it.
	exec {input}<&0 {STDIN_PIPE}<>"$RUN/stdin"
	cat <&"$input" >"$RUN/stdin" 2>/dev/null {STDIN_PIPE}<&- &
	STDIN_PID=$!
	exec {input}<&-

	for ((tries = 1; ; tries++)); do
		run_machine_once "$2"
		if [[ $ENDED != silence ]] || ((tries == BOOT_TRIES)); then break; fi
		say "the guest's kernel hung while it booted; starting another one"
		mv "$GUEST_LOG" "$RUN/kernel-hung-$tries.log"
		: >"$GUEST_LOG"
		: >"$RUN/control"
		rm -f "$RUN"/{root,work}.sock* "$RUN/qmp.sock"
	done
	stop_stdin
}
run_machine_once() { # TIMEOUT
	local status=0 ended boot machine timer
	cat "$RUN/stdout" 2>/dev/null {STDIN_PIPE}<&- &
	STDOUT_PID=$!
	cat "$RUN/stderr" >&2 {STDIN_PIPE}<&- &
	STDERR_PID=$!
	set -m
	in_machine_namespace /run/lab/machine "${QEMU[@]}" >"$RUN/qemu.log" 2>&1 </dev/null {STDIN_PIPE}<&- &
	set +m
	machine=$! MACHINE_PID=$!
	sleep "$1" {STDIN_PIPE}<&- &
	timer=$! TIMER_PID=$!
	watch_boot >/dev/null 2>&1 {STDIN_PIPE}<&- &
	boot=$! BOOT_PID=$!

	wait -n -p ended "$machine" "$timer" "$boot" "$STDOUT_PID" || status=$?
	if [[ $ended == "$boot" ]]; then
		BOOT_PID=
		if ((status == 0)); then
			close_stdin_pipe
			wait -n -p ended "$machine" "$timer" "$STDOUT_PID" || status=$?
		fi
	fi
	if [[ $ended == "$STDOUT_PID" ]]; then
		STDOUT_PID=
		# At the guest's end cat ends well; not so if its reader has gone.
		if ((status == 0)); then
			wait -n -p ended "$machine" "$timer" || true
		fi
	fi
	case $ended in
	"$machine") ENDED=guest ;;
	"$timer") ENDED=timeout ;;
	"$boot") ENDED=silence ;;
	*) ENDED=reader ;;
	esac
	# What is in the pipes still goes out.
	stop_machine_only
	: <>"$RUN/stdout" <>"$RUN/stderr" # in case QEMU never opened them
	wait ${STDOUT_PID:+"$STDOUT_PID"} "$STDERR_PID" 2>/dev/null || true
	STDOUT_PID='' STDERR_PID=''
}
MACHINE_PID='' TIMER_PID='' BOOT_PID='' STDIN_PIPE='' STDIN_PID='' STDOUT_PID='' STDERR_PID=''

# Ends when guest-init runs, or fails when the kernel has been silent for too long.
watch_boot() {
	local size last='' since=$SECONDS limit=$BOOT_SILENCE
	if is_debug "$KERNEL"; then limit=$((limit * DEBUG_SLOWER)); fi
	until grep -q '^phase kernel' "$RUN/control"; do
		sleep 1
		size=$(stat -c %s "$GUEST_LOG")
		if [[ $size != "$last" ]]; then
			last=$size since=$SECONDS
		elif ((SECONDS - since >= limit)); then
			return 1
		fi
	done
}

run_machine_on_terminal() { # ACCEL
	local saved
	saved=$(stty -g)
	describe_machine "$1"
	QEMU+=(
		-chardev stdio,id=tty,signal=off
		-device "virtconsole,nr=0,chardev=tty"
	)
	(in_machine_namespace /run/lab/machine "${QEMU[@]}" 2>"$RUN/qemu.log") <&0 || true
	stty "$saved"
	ENDED=guest
}

stop_machine_only() {
	if [[ -n $MACHINE_PID ]]; then
		kill -KILL -- "-$MACHINE_PID" 2>/dev/null || true
		wait "$MACHINE_PID" 2>/dev/null || true
		MACHINE_PID=
	fi
	# shellcheck disable=SC2086
	kill $TIMER_PID $BOOT_PID 2>/dev/null || true
	TIMER_PID='' BOOT_PID=''
}
stop_stdin() {
	# shellcheck disable=SC2086
	kill $STDIN_PID 2>/dev/null || true
	STDIN_PID=''
	close_stdin_pipe
}
close_stdin_pipe() {
	[[ -z $STDIN_PIPE ]] || exec {STDIN_PIPE}<&-
	STDIN_PIPE=''
}
stop_machine() {
	stop_machine_only
	[[ -z $STDIN_PID ]] || stop_stdin
	# shellcheck disable=SC2086
	kill $STDOUT_PID $STDERR_PID 2>/dev/null || true
}

# Turns how the guest ended, its control file and its kernel log into a status,
# and says what was wrong.
judge() { # TIMEOUT
	local timeout=$1 status failed splats
	status=$(sed -n 's/^exit //p' "$RUN/control")
	failed=$(sed -n 's/^failed //p' "$RUN/control")
	splats=$(find_splats "$GUEST_LOG")

	if [[ -n $failed ]]; then
		say "the guest could not be set up: $failed"
		last_lines 20
		status=$ST_LAB
	elif [[ $ENDED == reader ]]; then
		status=141 # as a command killed by SIGPIPE
	elif [[ $ENDED == timeout ]]; then
		say "timeout: killed the guest after $timeout s; its last kernel lines:"
		last_lines 20
		status=$ST_TIMEOUT
	elif [[ $ENDED == silence ]]; then
		say "the guest's kernel hung while it booted, $BOOT_TRIES times; its last lines:"
		last_lines 20
		status=$ST_DIED
	elif [[ -z $status ]]; then
		if grep -q 'Kernel panic' "$GUEST_LOG"; then
			say "the guest panicked; its last kernel lines:"
			# From what it died of to the end.
			tr -d '\r' <"$GUEST_LOG" | sed -nE '/BUG:|Oops|general protection|Kernel panic/,$p' |
				sed 's/^/    /; 80q' >&2
		else
			say "the guest ended without an exit status; its last kernel lines:"
			sed 's/^/    qemu: /' "$RUN/qemu.log" | tail -n 5 >&2
			last_lines 20
		fi
		status=$ST_DIED
	elif [[ -n $splats ]]; then
		say "the guest's kernel complained:"
		printf '%s\n' "$splats" | sed 's/^/    /' >&2
		((status != 0)) || status=$ST_SPLAT
	fi
	((status == 0)) || say "exit status $status; the guest's kernel log is $GUEST_LOG"
	[[ -z ${OPT[times]} ]] || show_times
	STATUS=$status
}
last_lines() { tr -d '\r' <"$GUEST_LOG" | tail -n "$1" | sed 's/^/    /' >&2; }

# Prints the lines of a kernel log that match lab.d/splats and not
# lab.d/splats-ignored, with some context.
find_splats() { # LOG
	tr -d '\r' <"$1" | grep -avE -f <(patterns "$LAB_D/splats-ignored") |
		grep -aE -B 3 -A 12 -m 20 -f <(patterns "$LAB_D/splats") | head -n 60 || true
}
patterns() {
	sed '/^#/d; /^[[:space:]]*$/d' "$1"
	echo 'a line that no log has'
}

show_times() {
	local now=$EPOCHREALTIME
	{
		awk -v total="$(awk "BEGIN { print $now - $GUEST_START }")" '
			/^phase / {
				if ($2 == "kernel") printf "  %-28s %6.1f s\n", "kernel, to PID 1", $3
				else printf "  %-28s %6.1f s\n", $2, $3 - last
				last = $3
			}
			END {
				printf "  %-28s %6.1f s\n", "QEMU start, unpacking, end", total - last
				printf "  %-28s %6.1f s\n", "total", total
			}' "$RUN/control" | tr _ ' '
	} >&2
}
