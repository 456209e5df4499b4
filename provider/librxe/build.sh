#!/bin/sh
# SPDX-License-Identifier: GPL-2.0 OR BSD-2-Clause
#
# Build librxe with dma-buf MRs out of an rdma-core tarball.
#
#   build.sh TARBALL WORK_DIR OUT_DIR
#
# WORK_DIR keeps the unpacked tree between calls, so that only what changed is
# built again; it is made anew when the tarball or a patch changed.
# OUT_DIR/librxe-rdmavNN.so is the result; NN is the provider ABI of rdma-core.
# Says nothing unless something fails; then it prints the end of the log.
set -eu

tarball=$1 work=$2 out=$3
here=$(cd "$(dirname "$0")" && pwd)
src=$work/src
build=$work/build
log=$work/build.log

quietly() {
	if ! "$@" >>"$log" 2>&1; then
		echo "librxe overlay: '$1' failed, end of $log:" >&2
		tail -n 30 "$log" >&2
		exit 1
	fi
}

unpack() {
	rm -rf "$src" "$build" "$work/unpacked"
	mkdir -p "$src"
	quietly tar -xf "$tarball" -C "$src" --strip-components=1
	for p in "$here"/librxe-*.patch; do
		# No guesses: a hunk that upstream has by now can fit beside itself.
		! is_for "$p" || quietly patch -d "$src" -p1 --fuzz=0 -i "$p"
	done
}

# A patch whose name ends with -before-NN is for releases older than NN.
is_for() {
	before=$(expr "$1" : '.*-before-\([0-9]*\)\.patch$') || return 0
	release=$(sed -n 's/^set(PACKAGE_VERSION "\([0-9]*\)\..*/\1/p' "$src/CMakeLists.txt")
	[ "$release" -lt "$before" ]
}

mkdir -p "$work" "$out"
: >"$log"

# What the unpacked tree was made of.
origin=$(cat "$tarball" "$here"/librxe-*.patch | sha256sum)
if [ "$(cat "$work/unpacked" 2>/dev/null)" != "$origin" ]; then
	unpack
	echo "$origin" >"$work/unpacked"
fi

for f in rxe_dmabuf.c rxe_dmabuf.h; do
	cmp -s "$here/$f" "$src/providers/rxe/$f" || cp "$here/$f" "$src/providers/rxe/"
done

# No RPATH: the libibverbs to use is the one that loads it, not that of this build.
[ -f "$build/build.ninja" ] ||
	quietly cmake -GNinja -S "$src" -B "$build" -DCMAKE_BUILD_TYPE=RelWithDebInfo \
		-DNO_MAN_PAGES=1 -DNO_PYVERBS=1 -DCMAKE_SKIP_RPATH=1
target=$(cd "$build" && ninja -t targets all | sed -n 's/^\(rxe-rdmav[0-9]*\): phony$/\1/p')
[ -n "$target" ] || {
	echo "librxe overlay: $tarball has no librxe to build" >&2
	exit 1
}
quietly ninja -C "$build" "$target"

# A program may have the old file mapped: replace it, never write into it.
cp "$build/lib/lib$target.so" "$out/lib$target.so.new"
mv -f "$out/lib$target.so.new" "$out/lib$target.so"
