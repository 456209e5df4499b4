# SPDX-License-Identifier: GPL-2.0 OR BSD-2-Clause
# shellcheck shell=bash
#
# ./lab package: Debian packages of all of this (debian/), built in the Debian root,
# into $PACKAGES. They are made from scratch, in a copy of the clone, when anything
# has changed that goes into them.

PACKAGES=$CLONE/packages

cmd_package() {
	make_packages
	say "the packages, in ${PACKAGES#"$PWD"/}:"
	(cd "$PACKAGES" && ls -- *.deb)
}

make_packages() {
	mkdir -p "$BUILD"
	# A lock of its own: it takes minutes, and needs nothing that others build.
	with_lock "$BUILD.package.lock" "building packages for this clone" make_packages_locked
}

make_packages_locked() {
	local made_of log=$BUILD/package.log
	made_of=$(packages_are_made_of)
	if [[ "$(cat "$PACKAGES/.made-of" 2>/dev/null)" == "$made_of" ]]; then return; fi
	: >"$log"
	step "$log" "building packages" build_packages
	rm -rf -- "$PACKAGES"
	mkdir "$PACKAGES"
	mv "$BUILD"/package/*.deb "$PACKAGES"
	echo "$made_of" >"$PACKAGES/.made-of"
	remove_tree "$BUILD/package"
}

# What goes into them, as paths in the clone.
package_sources() {
	local path
	for path in CMakeLists.txt cmake debian docs/{access-rules,debugging,verbs}.md examples \
		kernel provider tools; do
		[[ ! -e $CLONE/$path ]] || echo "$path"
	done
}
packages_are_made_of() {
	local sources
	mapfile -t sources < <(package_sources)
	{
		echo "$ROOT_ID"
		cd "$CLONE"
		find "${sources[@]}" -type f -not -path '*/build/*' -print0 | LC_ALL=C sort -z |
			xargs -0 sha256sum
	} | sha256sum
}

# dpkg-buildpackage would insist on the package build-essential, which is more than
# it takes; so what debian/control asks for is looked at without that.
build_packages() {
	local sources
	mapfile -t sources < <(package_sources)
	in_root bash -euc '
		clone=$1
		shift
		rm -rf /lab/build/package
		mkdir -p /lab/build/package/umem-pfn
		tar -C "$clone" -c --exclude=build "$@" | tar -C /lab/build/package/umem-pfn -x
		cd /lab/build/package/umem-pfn
		dpkg-checkbuilddeps -I
		export RDMA_CORE_TARBALL=$(ls /usr/src/umem-pfn/rdma-core_*.orig.tar.*z | sort -V | head -n 1)
		# Debug symbols would be packages of their own, which nobody wants here.
		export DEB_BUILD_OPTIONS="noautodbgsym parallel=$(nproc)"
		export DEB_CFLAGS_STRIP=-g DEB_CXXFLAGS_STRIP=-g
		dpkg-buildpackage --build=binary --no-sign --no-check-builddeps
		' - "$CLONE" "${sources[@]}"
}
