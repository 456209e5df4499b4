#!/bin/sh
# SPDX-License-Identifier: GPL-2.0 OR BSD-2-Clause
#
# Build perftest with memory of dma-bufs.
#
#   build.sh SOURCE WORK_DIR OUT_DIR
#
# SOURCE is a tarball or a directory.
# WORK_DIR keeps the patched tree between calls, so that only what changed is
# built again; it is made anew when the source or a patch changed.
# OUT_DIR gets bin/ and share/man/man1/.
# Says nothing unless something fails; then it prints the end of the log.
set -eu

source=$1 work=$2 out=$3
here=$(cd "$(dirname "$0")" && pwd)
src=$work/src
log=$work/build.log
uapi=$here/../../kernel/ib_umem_pfn/include/uapi/linux
programs='ib_write_bw ib_write_lat ib_read_bw ib_read_lat ib_send_bw ib_send_lat ib_atomic_bw ib_atomic_lat'

quietly() {
	if ! "$@" >>"$log" 2>&1; then
		echo "perftest overlay: '$1' failed, end of $log:" >&2
		tail -n 30 "$log" >&2
		exit 1
	fi
}

unpack() {
	rm -rf "$src" "$work/unpacked"
	mkdir -p "$src"
	if [ -d "$source" ]; then
		quietly cp -R "$source/." "$src"
	else
		quietly tar -xf "$source" -C "$src" --strip-components=1
	fi
	for p in "$here"/perftest-*.patch; do
		# No guesses: a hunk that upstream has by now can fit beside itself.
		quietly patch -d "$src" -p1 --fuzz=0 -i "$p"
	done
}

# A directory's files may change without its name or time doing so.
checksum() {
	if [ -d "$source" ]; then
		find "$source" -type f ! -path '*/.git/*' -exec cat {} +
	else
		cat "$source"
	fi | cat - "$here"/perftest-*.patch | sha256sum
}

configure() {
	cd "$src"
	quietly ./autogen.sh
	quietly ./configure --disable-dependency-tracking CC="${CC:-cc}" CFLAGS=-O2
}

mkdir -p "$work" "$out/bin" "$out/share/man/man1"
: >"$log"

origin=$(checksum)
if [ "$(cat "$work/unpacked" 2>/dev/null)" != "$origin" ]; then
	unpack
	(configure)
	echo "$origin" >"$work/unpacked"
fi

# Without dependency tracking, these are ours to remember.
for f in "$here"/pfn_*.[ch] "$uapi/pfn_vram.h"; do
	cmp -s "$f" "$src/src/${f##*/}" || {
		cp "$f" "$src/src/"
		rm -f "$src"/src/*.o
	}
done
# shellcheck disable=SC2086 # words
quietly make -C "$src" -j"$(nproc)" $programs

# A program may be running: replace it, never write into it.
for p in $programs; do
	cp "$src/$p" "$out/bin/$p.new"
	mv -f "$out/bin/$p.new" "$out/bin/$p"
	cp "$src/man/perftest.1" "$out/share/man/man1/$p.1"
done
